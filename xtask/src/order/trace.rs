//! A daemon's life under qemu-user, which writes down every block of code when it first comes to it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};

use crate::process::{Daemon, end, find_program, run_quiet, wait_until};

/// Where qemu-user puts a position independent program.
const BASE: u64 = 0x40_0000_0000;
/// More than any program of ours has.
const REACH: u64 = 0x400_0000;
const LIMIT: Duration = Duration::from_secs(120);
/// Housekeeping on a period: the sweep, the store's retention, the look at the disk.
const IDLE: Duration = Duration::from_secs(40);
/// Many do some things that one does not: they meet in a commit, and what they share grows.
const POOLS: usize = 60;
const STOP: Duration = Duration::from_secs(30);

/// The addresses that ran, relative to the program, in the order of their first run.
pub(super) fn addresses(binary: &Path) -> Result<Vec<u64>> {
    let qemu = find_program("qemu-x86_64").context("there is no qemu-x86_64 (qemu-user)")?;
    let dir = std::env::temp_dir().join(format!("fleetfoot-order-{}", std::process::id()));
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut running = Vec::new();
    let lived = life(binary, &qemu, &dir, &mut running);
    for mut daemon in running.into_iter().rev() {
        daemon.stop(STOP);
    }
    let met = lived.and_then(|()| read(&dir.join("blocks")));
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    met
}

/// Start, idle polls over HTTP and TLS, jobs, questions, another reading of the configuration, the end.
fn life(binary: &Path, qemu: &Path, dir: &Path, running: &mut Vec<Daemon>) -> Result<()> {
    let outside = dir.join("outside");
    let mut command = Command::new(binary);
    command.args(["bench", "--outside-settings", "{}", "--outside"]).arg(dir.join("engine.sock"));
    running.push(Daemon::start("the box", &mut command, &outside, Signal::TERM)?);
    let url = word_of(running, &outside, "\"url\":\"", "\"")?;
    certificates(dir)?;
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(["s_server", "-accept", "0", "-www"]);
    command.args(["-cert", "leaf.pem", "-key", "leaf.key"]);
    let secure = dir.join("secure");
    running.push(Daemon::start("openssl s_server", &mut command, &secure, Signal::TERM)?);
    let port = word_of(running, &secure, "ACCEPT ", "\n")?;
    let port = port.rsplit(':').next().unwrap_or_default().to_owned();
    fs::write(dir.join("fleetfoot.yml"), config(dir, &url, &port))?;
    fs::write(dir.join("token"), "ghp_fleetfootbox")?;

    let mut command = Command::new(qemu);
    command.args(["-d", "in_asm", "-D"]).arg(dir.join("blocks")).arg(binary);
    command.arg("run").arg("--config").arg(dir.join("fleetfoot.yml"));
    command.arg("--state-dir").arg(dir.join("state"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", dir);
    running.push(Daemon::start("fleetfoot run", &mut command, &dir.join("log"), Signal::TERM)?);
    let ask = |words: &[&str]| {
        let mut command = Command::new(binary);
        run_quiet(command.args(words).arg("--state-dir").arg(dir.join("state")))
    };
    let connected = |said: String| said.matches("connected").count() >= POOLS;
    wait(running, || ask(&["status"]).is_ok_and(connected))?;
    println!("the daemon polls; it is left alone for {} s", IDLE.as_secs());
    std::thread::sleep(IDLE);
    let jobs = ["--org", "bench", "--pool", "pool-1", "--count", "3", "--duration", "1s"];
    run_quiet(Command::new(binary).args(["sim", "job", "--box", &url]).args(jobs))?;
    let log = dir.join("log");
    wait(running, || said(&log, "job completed") || said(&log, "instance gone"))?;
    wait(running, || ask(&["status"]).is_ok_and(|said| said.contains("no instances")))?;
    ask(&["status", "--output", "json"])?;
    ask(&["why", "pool-1"])?;
    let pid = running.last().and_then(|daemon| Pid::from_raw(daemon.pid().cast_signed()));
    end(pid.context("no daemon")?, Signal::HUP);
    wait(running, || said(&log, "credentials were read again"))?;
    running.pop().context("no daemon")?.stop(STOP);
    Ok(())
}

fn config(dir: &Path, url: &str, port: &str) -> String {
    let dir = dir.display();
    let mut text = format!(
        "url: {url}/bench\ntoken_file: {dir}/token\nlisten: 127.0.0.1:0\ngithub:\n  ca_file: {dir}/ca.pem\nrunners:\n"
    );
    let mut pools =
        vec![("secure".to_owned(), format!("    url: https://localhost:{port}/bench\n"))];
    pools.extend((0..POOLS).map(|number| (format!("pool-{number}"), String::new())));
    for (pool, more) in pools {
        text += &format!(
            "  {pool}:\n{more}    labels: [{pool}]\n    max_runners: 2\n    idle_timeout: 1s\n    simulated: {{socket: {dir}/engine.sock}}\n"
        );
    }
    text
}

/// An authority and a server's certificate of it.
fn certificates(dir: &Path) -> Result<()> {
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")?;
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"),
        format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=localhost"),
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out leaf.pem".to_owned(),
    ] {
        let mut command = Command::new("openssl");
        run_quiet(command.current_dir(dir).stdout(Stdio::null()).args(line.split(' ')))?;
    }
    Ok(())
}

fn said(log: &Path, words: &str) -> bool {
    fs::read_to_string(log).unwrap_or_default().contains(words)
}

fn wait(running: &mut [Daemon], level: impl FnMut() -> bool) -> Result<()> {
    running.last_mut().context("nothing was started")?.wait_ready(LIMIT, level)
}

/// What stands between these words in the output of what was started last.
fn word_of(running: &mut [Daemon], log: &Path, before: &str, after: &str) -> Result<String> {
    let mut found = None;
    let last = running.last_mut().context("nothing was started")?;
    last.wait_ready(LIMIT, || {
        let text = fs::read_to_string(log).unwrap_or_default();
        let behind = text.split_once(before).map(|(_, behind)| behind);
        found = behind.and_then(|behind| behind.split_once(after)).map(|(it, _)| it.to_owned());
        found.is_some()
    })?;
    found.context("it did not say where it is")
}

/// The program's own addresses in qemu's list of what it translated.
fn read(blocks: &Path) -> Result<Vec<u64>> {
    ensure!(wait_until(STOP, || blocks.is_file()), "qemu wrote nothing");
    let file =
        fs::File::open(blocks).with_context(|| format!("cannot open {}", blocks.display()))?;
    let (mut seen, mut met) = (BTreeSet::new(), Vec::new());
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        let Some(address) = address(&line) else { continue };
        if seen.insert(address) {
            met.push(address);
        }
    }
    Ok(met)
}

/// `0x40012345:  48 89 e7  movq %rsp, %rdi`.
fn address(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line.get(..line.len().min(24))?).ok()?;
    let (digits, _) = text.strip_prefix("0x")?.split_once(':')?;
    let address = u64::from_str_radix(digits, 16).ok()?.checked_sub(BASE)?;
    (address < REACH).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_program_are_read() {
        assert_eq!(address(b"0x4000001010:  48 89 e7     movq     %rsp, %rdi"), Some(0x1010));
        assert_eq!(address(b"0x4002b80000:  48"), Some(0x2b8_0000));
        assert_eq!(address(b"0x7f0000000000:  48"), None);
        assert_eq!(address(b"IN: main"), None);
    }
}
