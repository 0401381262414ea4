//! The line that a go-plugin program begins with: `1|1|unix|/tmp/plugin123|grpc|`.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The protocol version of the library itself.
const CORE: &str = "1";
/// The version of the application's protocol, the only one there is.
pub(crate) const APPLICATION: &str = "1";

/// Where a plugin listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

/// A line that is no handshake of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not four fields.
    #[error("`{0}` is no handshake of a go-plugin program")]
    Unrecognized(String),
    /// Another version of the library's protocol.
    #[error("it speaks version {0} of go-plugin, {CORE} is known")]
    Core(String),
    /// Another version of the shoes protocol.
    #[error("it speaks version {0} of the shoes protocol, {APPLICATION} is known")]
    Application(String),
    /// Not gRPC.
    #[error("it speaks {0}, only gRPC is known")]
    Protocol(String),
    /// Neither a socket nor TCP.
    #[error("it listens on `{0}`, neither unix nor tcp")]
    Network(String),
    /// It asks for TLS that was not offered.
    #[error("it wants TLS, which was not offered")]
    Certificate,
    /// It does not ask for TLS that was offered, or not so that it can be had.
    #[error("it gives no certificate, and TLS is asked for")]
    NoCertificate,
}

/// What the line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub(crate) address: Address,
    /// Its certificate, if ours was offered.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// So long may a text be that older plugins put where the certificate goes.
const NO_CERTIFICATE_MAX: usize = 50;

/// Reads the line of a plugin that was offered a certificate, or was not.
pub(crate) fn parse(line: &str, offered: bool) -> Result<Handshake, HandshakeError> {
    let line = line.trim();
    let fields: Vec<&str> = line.split('|').collect();
    let [core, application, network, address, rest @ ..] = fields.as_slice() else {
        return Err(HandshakeError::Unrecognized(shortened(line)));
    };
    if *core != CORE {
        // The first line of any other program has a bar somewhere now and then.
        let is_version = core.parse::<u32>().is_ok();
        return Err(if is_version {
            HandshakeError::Core((*core).to_owned())
        } else {
            HandshakeError::Unrecognized(shortened(line))
        });
    }
    if *application != APPLICATION {
        return Err(HandshakeError::Application(shortened(application)));
    }
    match rest.first() {
        Some(&"grpc") => {}
        // Four fields are those of a plugin that knows nothing else.
        None => return Err(HandshakeError::Protocol("netrpc".to_owned())),
        Some(other) => return Err(HandshakeError::Protocol(shortened(other))),
    }
    let given = rest.get(1).filter(|certificate| certificate.len() > NO_CERTIFICATE_MAX);
    let certificate = match (given, offered) {
        (None, false) => None,
        (Some(_), false) => return Err(HandshakeError::Certificate),
        (given, true) => {
            let read = given.and_then(|text| STANDARD_NO_PAD.decode(text).ok());
            Some(read.ok_or(HandshakeError::NoCertificate)?)
        }
    };
    let address = match *network {
        "unix" => Address::Unix(PathBuf::from(*address)),
        "tcp" => Address::Tcp((*address).to_owned()),
        other => return Err(HandshakeError::Network(shortened(other))),
    };
    Ok(Handshake { address, certificate })
}

fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 200;
    let shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN_MAX { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_says_where_it_listens() {
        for (line, address) in [
            ("1|1|unix|/tmp/plugin1|grpc|", Address::Unix("/tmp/plugin1".into())),
            ("1|1|unix|/tmp/plugin1|grpc", Address::Unix("/tmp/plugin1".into())),
            ("  1|1|tcp|127.0.0.1:10000|grpc|\r\n", Address::Tcp("127.0.0.1:10000".to_owned())),
            (
                "1|1|unix|/tmp/plugin1|grpc|short text of an older one|x",
                Address::Unix("/tmp/plugin1".into()),
            ),
        ] {
            let handshake = Handshake { address, certificate: None };
            assert_eq!(parse(line, false), Ok(handshake), "{line}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_it_is() {
        for (line, error) in [
            ("", "`` is no handshake of a go-plugin program"),
            ("usage: foo|bar", "`usage: foo|bar` is no handshake of a go-plugin program"),
            ("a|b|c|d|grpc", "`a|b|c|d|grpc` is no handshake of a go-plugin program"),
            ("1|1|unix", "`1|1|unix` is no handshake of a go-plugin program"),
            ("2|1|unix|/x|grpc|", "it speaks version 2 of go-plugin, 1 is known"),
            ("1|4|unix|/x|grpc|", "it speaks version 4 of the shoes protocol, 1 is known"),
            ("1|1|unix|/x", "it speaks netrpc, only gRPC is known"),
            ("1|1|unix|/x|netrpc|", "it speaks netrpc, only gRPC is known"),
            ("1|1|pipe|/x|grpc|", "it listens on `pipe`, neither unix nor tcp"),
        ] {
            let refused = parse(line, false).map_err(|it| it.to_string());
            assert_eq!(refused, Err(error.to_owned()), "{line}");
        }
        let certificate = format!("1|1|unix|/x|grpc|{}", "A".repeat(60));
        assert_eq!(parse(&certificate, false), Err(HandshakeError::Certificate));
        assert_eq!(parse(&certificate, true).unwrap().certificate, Some(vec![0; 45]));
        for none in ["1|1|unix|/x|grpc|", "1|1|unix|/x|grpc", &"1|1|unix|/x|grpc|!".repeat(60)] {
            assert_eq!(parse(none, true), Err(HandshakeError::NoCertificate), "{none}");
        }
        let rubbish = parse(&"\u{1b}".repeat(500), false).unwrap_err().to_string();
        assert!(rubbish.contains("\\u{1b}") && !rubbish.contains('\u{1b}'), "{rubbish}");
    }
}
