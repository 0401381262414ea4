//! Addresses of MySQL as go-sql-driver writes them: `user:password@tcp(host:3306)/database?key=value`.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// A socket of this host.
    Unix(String),
}

/// A parsed address.
#[derive(Clone)]
pub struct Dsn {
    /// The user, maybe empty.
    pub user: String,
    /// The password, maybe empty. It may contain anything, `@` and `/` included.
    pub password: SecretString,
    /// Where.
    pub address: Address,
    /// The database, also the name of the lock (3.6). Maybe empty.
    pub database: String,
    /// What follows the question mark, in order, decoded.
    pub parameters: Vec<(String, String)>,
}

impl Dsn {
    /// The same as the URL that databases are named by elsewhere. It holds the password.
    #[must_use]
    pub fn url(&self) -> SecretString {
        let place = match &self.address {
            // A port of its own keeps a host that is an IPv6 address apart.
            Address::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp(host, port) => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        };
        let mut text = format!(
            "mysql://{}:{}@{place}/{}",
            encoded(&self.user),
            encoded(self.password.expose_secret()),
            encoded(&self.database)
        );
        let socket = match &self.address {
            Address::Unix(path) => Some(format!("socket={}", encoded(path))),
            Address::Tcp(..) => None,
        };
        let tls = self.value("tls").and_then(tls_mode).map(|mode| format!("ssl-mode={mode}"));
        let queries: Vec<String> = socket.into_iter().chain(tls).collect();
        if !queries.is_empty() {
            text.push('?');
            text.push_str(&queries.join("&"));
        }
        text.into()
    }

    fn value(&self, parameter: &str) -> Option<&str> {
        // Of a repeated one the last counts.
        self.parameters.iter().rev().find(|(name, _)| name == parameter).map(|(_, value)| &**value)
    }

    /// The parameters that do nothing here, each once. Those that the original overwrites itself are not among them:
    /// what they say never counted.
    #[must_use]
    pub fn unused(&self) -> Vec<&str> {
        let mut unused: Vec<&str> = Vec::new();
        for (name, _) in &self.parameters {
            let is_used = name == "tls" || OVERWRITTEN.contains(&name.as_str());
            if !is_used && !unused.contains(&name.as_str()) {
                unused.push(name);
            }
        }
        unused
    }

    fn check(&self) -> Result<(), DsnError> {
        for (name, value) in &self.parameters {
            let refuse = |wanted| {
                let (name, value) = (name.clone(), value.clone());
                Err(DsnError::Value { name, value, wanted })
            };
            if name == "tls" && tls_mode(value).is_none() {
                return refuse("true, false, skip-verify or preferred");
            }
            if SWITCHES.contains(&name.as_str()) && truth(value).is_none() {
                return refuse("true or false");
            }
        }
        Ok(())
    }
}

/// The original sets these itself, whatever the address says: times are moments, in UTC, texts are utf8mb4.
const OVERWRITTEN: [&str; 5] = ["parseTime", "loc", "interpolateParams", "collation", "sql_mode"];

/// Parameters of the driver that are a word of truth; anything else in them ends the original.
const SWITCHES: [&str; 13] = [
    "allowAllFiles",
    "allowCleartextPasswords",
    "allowFallbackToPlaintext",
    "allowNativePasswords",
    "allowOldPasswords",
    "checkConnLiveness",
    "clientFoundRows",
    "columnsWithAlias",
    "compress",
    "interpolateParams",
    "multiStatements",
    "parseTime",
    "rejectReadOnly",
];

fn truth(word: &str) -> Option<bool> {
    match word {
        "1" | "true" | "TRUE" | "True" => Some(true),
        "0" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The mode of a connection, in the words of the URL.
fn tls_mode(word: &str) -> Option<&'static str> {
    match (truth(word), word.to_ascii_lowercase().as_str()) {
        (Some(true), _) => Some("VERIFY_IDENTITY"),
        (Some(false), _) => Some("DISABLED"),
        (None, "skip-verify") => Some("REQUIRED"),
        (None, "preferred") => Some("PREFERRED"),
        (None, _) => None,
    }
}

/// Every byte that is not plain as a number.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({:?}, {})", self.address, self.database)
    }
}

/// An address that cannot be read. The text itself is not repeated: it has a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// There is no slash.
    #[error("the slash before the database's name is missing")]
    NoDatabase,
    /// The parenthesis after the network has no end.
    #[error("the address is not closed: write tcp(host:3306) or unix(/path)")]
    Unclosed,
    /// Neither tcp nor unix.
    #[error("`{0}` is no network: use tcp or unix")]
    Network(String),
    /// The port is no number.
    #[error("`{0}` is no port")]
    Port(String),
    /// A parameter has a value that the driver does not know.
    #[error("`{name}={value}` cannot be used: it is {wanted}")]
    Value {
        /// The parameter.
        name: String,
        /// What it says.
        value: String,
        /// What it may say.
        wanted: &'static str,
    },
}

const HOST: &str = "127.0.0.1";
const PORT: u16 = 3306;
const SOCKET: &str = "/tmp/mysql.sock";

/// Reads an address.
///
/// # Errors
///
/// If it is none.
pub fn parse(text: &str) -> Result<Dsn, DsnError> {
    // The last slash before the parameters is the database's: what comes before it may have others.
    let slash = text.rfind('/').ok_or(DsnError::NoDatabase)?;
    let (before, after) = (&text[..slash], &text[slash + 1..]);
    let (database, parameters) = after.split_once('?').unwrap_or((after, ""));
    let (credentials, place) = before.rsplit_once('@').unwrap_or(("", before));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let dsn = Dsn {
        user: user.to_owned(),
        password: password.to_owned().into(),
        address: address(place)?,
        database: decoded(database),
        // What has no value says nothing, as with the driver.
        parameters: parameters
            .split('&')
            .filter_map(|it| it.split_once('='))
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect(),
    };
    dsn.check()?;
    Ok(dsn)
}

fn address(place: &str) -> Result<Address, DsnError> {
    let (network, inside) = match place.split_once('(') {
        None => (place, ""),
        Some((network, rest)) => (network, rest.strip_suffix(')').ok_or(DsnError::Unclosed)?),
    };
    match network {
        "" | "tcp" | "tcp4" | "tcp6" => tcp(inside),
        "unix" if inside.is_empty() => Ok(Address::Unix(SOCKET.to_owned())),
        "unix" => Ok(Address::Unix(inside.to_owned())),
        other => Err(DsnError::Network(other.to_owned())),
    }
}

fn tcp(place: &str) -> Result<Address, DsnError> {
    if place.is_empty() {
        return Ok(Address::Tcp(HOST.to_owned(), PORT));
    }
    // `[::1]:3306`, `[::1]`, `host:3306`, `host`.
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (place, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port =
        port.map_or(Ok(PORT), |port| port.parse().map_err(|_| DsnError::Port(port.to_owned())))?;
    Ok(Address::Tcp(if host.is_empty() { HOST.to_owned() } else { host.to_owned() }, port))
}

/// `%2F` and the like. What is no escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = escape
            .and_then(|it| std::str::from_utf8(it).ok())
            .and_then(|it| u8::from_str_radix(it, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_elsewhere() {
        for (dsn, url) in [
            ("u:p@tcp(db:3306)/myshoes", "mysql://u:p@db:3306/myshoes"),
            ("u:a@b/c?:d@tcp([::1])/x", "mysql://u:a%40b%2Fc%3F%3Ad@[::1]:3306/x"),
            ("u@unix(/run/my.sock)/x", "mysql://u:@localhost/x?socket=%2Frun%2Fmy.sock"),
            ("u@/x?tls=skip-verify", "mysql://u:@127.0.0.1:3306/x?ssl-mode=REQUIRED"),
            ("u@/x?tls=true&tls=False", "mysql://u:@127.0.0.1:3306/x?ssl-mode=DISABLED"),
            (
                "u@unix(/s)/x?tls=preferred&timeout=5s",
                "mysql://u:@localhost/x?socket=%2Fs&ssl-mode=PREFERRED",
            ),
        ] {
            assert_eq!(parse(dsn).unwrap().url().expose_secret(), url);
        }
    }

    #[test]
    fn addresses_are_read_as_the_driver_reads_them() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        for (text, user, password, address, database) in [
            (
                "username:password@tcp(localhost:3306)/myshoes",
                "username",
                "password",
                tcp("localhost", 3306),
                "myshoes",
            ),
            ("u@/d", "u", "", tcp("127.0.0.1", 3306), "d"),
            ("/", "", "", tcp("127.0.0.1", 3306), ""),
            (
                "u:p@unix(/run/mysqld/mysqld.sock)/d",
                "u",
                "p",
                Address::Unix("/run/mysqld/mysqld.sock".to_owned()),
                "d",
            ),
            ("u:p@ss/w:rd@tcp(db)/d", "u", "p@ss/w:rd", tcp("db", 3306), "d"),
            ("u:p@tcp([::1]:3307)/d", "u", "p", tcp("::1", 3307), "d"),
            ("u:p@tcp([::1])/d", "u", "p", tcp("::1", 3306), "d"),
            ("u:p@(db:1)/d%2Fe", "u", "p", tcp("db", 1), "d/e"),
        ] {
            let dsn = parse(text).unwrap();
            assert_eq!(
                (dsn.user.as_str(), dsn.password.expose_secret()),
                (user, password),
                "{text}"
            );
            assert_eq!((&dsn.address, dsn.database.as_str()), (&address, database), "{text}");
            assert!(!format!("{dsn:?}").contains("p@ss"), "{dsn:?}");
        }
        let dsn = parse("u:p@/d?parseTime=true&alone&&loc=Asia%2FTokyo").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(dsn.parameters, [pair("parseTime", "true"), pair("loc", "Asia/Tokyo")]);
    }

    #[test]
    fn parameters_that_do_nothing_here_are_told() {
        let dsn = parse("u@/d?parseTime=true&loc=UTC&timeout=5s&tls=true&charset=utf8&timeout=6s");
        assert_eq!(dsn.unwrap().unused(), ["timeout", "charset"]);
        assert_eq!(parse("u@/d").unwrap().unused(), Vec::<&str>::new());
    }

    fn value(name: &str, value: &str, wanted: &'static str) -> DsnError {
        DsnError::Value { name: name.to_owned(), value: value.to_owned(), wanted }
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        for (text, error) in [
            ("secret", DsnError::NoDatabase),
            ("u:secret@tcp(db/d", DsnError::Unclosed),
            ("u:secret@pipe(x)/d", DsnError::Network("pipe".to_owned())),
            ("u:secret@tcp(db:x)/d", DsnError::Port("x".to_owned())),
            (
                "u:secret@/d?tls=my-own",
                value("tls", "my-own", "true, false, skip-verify or preferred"),
            ),
            ("u:secret@/d?parseTime=yes", value("parseTime", "yes", "true or false")),
        ] {
            let refused = parse(text).unwrap_err();
            assert_eq!(refused, error);
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
    }
}
