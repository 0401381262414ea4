//! Tables of command lines and what the original makes of them.

use secrecy::ExposeSecret;

use super::*;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| word.replace("''", "")).collect()
}

fn options(line: &str) -> Options {
    match parse(&words(line)) {
        Ok(Invocation::Run(options)) => options,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn defaults_are_the_originals() {
    let options = options("");
    assert_eq!(options.config, "/etc/outrunner/config.yml");
    assert_eq!(options.url, "");
    assert_eq!(options.token.expose_secret(), "");
    assert_eq!(options.max_runners, 2);
}

#[test]
fn values_stand_behind_a_blank_or_an_equals_sign() {
    let table = [
        ("--config a.yml", "a.yml", "", "", 2),
        ("--config=a.yml", "a.yml", "", "", 2),
        ("--config= --url=x", "", "x", "", 2),
        ("--config a --config b", "b", "", "", 2),
        ("--config --url", "--url", "", "", 2),
        ("--url u --token t --max-runners 7", "/etc/outrunner/config.yml", "u", "t", 7),
        ("--url=a=b", "/etc/outrunner/config.yml", "a=b", "", 2),
        ("word --url u other", "/etc/outrunner/config.yml", "u", "", 2),
        ("help", "/etc/outrunner/config.yml", "", "", 2),
        ("- --url u", "/etc/outrunner/config.yml", "u", "", 2),
        ("-- --url u --bogus", "/etc/outrunner/config.yml", "", "", 2),
        ("-- completion", "/etc/outrunner/config.yml", "", "", 2),
        ("run completion", "/etc/outrunner/config.yml", "", "", 2),
        ("--url completion", "/etc/outrunner/config.yml", "completion", "", 2),
        ("--help=false -v=0", "/etc/outrunner/config.yml", "", "", 2),
    ];
    for (line, config, url, token, max) in table {
        let options = options(line);
        assert_eq!(options.config, config, "{line}");
        assert_eq!(options.url, url, "{line}");
        assert_eq!(options.token.expose_secret(), token, "{line}");
        assert_eq!(options.max_runners, max, "{line}");
    }
}

#[test]
fn limits_are_gos_integers() {
    let table = [
        ("8", 8),
        ("0", 0),
        ("0x10", 16),
        ("0X1f", 31),
        ("010", 8),
        ("0o10", 8),
        ("0b11", 3),
        ("1_000", 1000),
        ("+5", 5),
        ("-1", -1),
        ("0_10", 8),
    ];
    for (text, expected) in table {
        assert_eq!(options(&format!("--max-runners {text}")).max_runners, expected, "{text}");
    }
    assert!(options("--max-runners -1").max_runners().is_err());
    assert!(options("--max-runners 2147483648").max_runners().is_err());
    assert_eq!(options("--max-runners 2147483647").max_runners(), Ok(2_147_483_647));
    assert_eq!(options("--max-runners 0").max_runners(), Ok(0));
}

#[test]
fn mistakes_have_the_flag_librarys_texts() {
    let table = [
        ("--bogus", "unknown flag: --bogus"),
        ("--bogus=1", "unknown flag: --bogus"),
        ("--conf x", "unknown flag: --conf"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("-é", "unknown shorthand flag: 'Ã' in -é"),
        ("-vx", "unknown shorthand flag: 'x' in -x"),
        ("-config", "unknown shorthand flag: 'c' in -config"),
        ("-v=", "unknown shorthand flag: '=' in -="),
        ("--config", "flag needs an argument: --config"),
        ("--url u --token", "flag needs an argument: --token"),
        ("---x", "bad flag syntax: ---x"),
        ("--=x", "bad flag syntax: --=x"),
        (
            "--max-runners abc",
            "invalid argument \"abc\" for \"--max-runners\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax",
        ),
        (
            "--max-runners 1.5",
            "invalid argument \"1.5\" for \"--max-runners\" flag: strconv.ParseInt: parsing \"1.5\": invalid syntax",
        ),
        (
            "--max-runners=",
            "invalid argument \"\" for \"--max-runners\" flag: strconv.ParseInt: parsing \"\": invalid syntax",
        ),
        (
            "--max-runners 9223372036854775808",
            "invalid argument \"9223372036854775808\" for \"--max-runners\" flag: strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
        ),
        (
            "--help=maybe",
            "invalid argument \"maybe\" for \"-h, --help\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        ("--help --bogus", "unknown flag: --bogus"),
        ("completion bash --config x", "unknown flag: --config"),
    ];
    for (line, expected) in table {
        match parse(&words(line)) {
            Err(error) => assert_eq!(error.to_string(), expected, "{line}"),
            Ok(other) => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn help_comes_before_version_and_anything_else() {
    for line in
        ["-h", "--help", "-vh", "-hv", "--version --help", "--config x -h", "-h=true", "word -h"]
    {
        assert!(matches!(parse(&words(line)), Ok(Invocation::Help)), "{line}");
    }
    for line in ["-v", "--version", "--url u --version", "--version=true", "help --version"] {
        assert!(matches!(parse(&words(line)), Ok(Invocation::Version)), "{line}");
    }
    assert_eq!(version_line("dev"), "outrunner version dev");
}

#[test]
fn completion_is_a_command_when_it_is_the_first_word() {
    let shells = [
        ("bash", Shell::Bash),
        ("zsh", Shell::Zsh),
        ("fish", Shell::Fish),
        ("powershell", Shell::PowerShell),
    ];
    for (word, shell) in shells {
        for line in [format!("completion {word}"), format!("completion {word} --no-descriptions")] {
            match parse(&words(&line)) {
                Ok(Invocation::Completion(found)) => assert_eq!(found, shell),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
    for line in [
        "completion",
        "completion tcsh",
        "completion --help",
        "completion bash -h",
        "-h x completion",
        "completion -h bash",
    ] {
        assert!(
            matches!(parse(&words(line)), Ok(Invocation::CompletionHelp(None | Some(Shell::Bash)))),
            "{line}"
        );
    }
    // A flag before it takes it for a value, whatever that flag will be.
    for line in ["-h completion", "--help completion bash", "-h completion bash"] {
        assert!(matches!(parse(&words(line)), Ok(Invocation::Help)), "{line}");
    }
    assert!(completion_help(None).ends_with(
        "  -h, --help   help for completion\n\nUse \"outrunner completion [command] --help\" for more information about a command.\n"
    ));
    assert!(completion_help(Some(Shell::Zsh)).contains("outrunner completion zsh [flags]\n"));
}

#[test]
fn the_help_names_every_flag_with_its_default() {
    for (name, _, _) in ROOT {
        assert!(help().contains(&format!("--{name}")), "{name}");
    }
    assert!(help().contains("(default \"/etc/outrunner/config.yml\")"));
    assert!(help().contains("(default 2)"));
}
