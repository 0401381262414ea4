//! Whose word a database's certificate is believed on: Mozilla's list is compiled in, and besides it those whom this
//! host trusts, as other programs on it do. A company's own authority is usually there and nowhere else.

use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// The options of an address of MySQL.
pub(crate) fn mysql(url: &str) -> Result<MySqlConnectOptions, sqlx::Error> {
    let options = MySqlConnectOptions::from_str(url)?;
    Ok(if wants_ours(url) { options.ssl_ca_from_pem(of_this_host()) } else { options })
}

/// The options of an address of PostgreSQL.
pub(crate) fn postgres(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?;
    Ok(if wants_ours(url) { options.ssl_root_cert_from_pem(of_this_host()) } else { options })
}

/// A certificate is to be compared, and nobody is named whose word counts.
fn wants_ours(url: &str) -> bool {
    let said = |names: &[&str]| {
        let (_, query) = url.split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| names.contains(name)).map(|(_, value)| value).next_back()
    };
    let mode = said(&["sslmode", "ssl-mode"]).unwrap_or_default().to_ascii_lowercase();
    mode.starts_with("verify")
        && said(&["sslca", "ssl-ca", "sslrootcert", "ssl-root-cert"]).is_none()
}

/// As PEM. One that cannot be read is left out: it would make all others useless.
fn of_this_host() -> Vec<u8> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "certificate authorities of this host");
    }
    let mut pem = String::new();
    for certificate in found.certs {
        if RootCertStore::empty().add(certificate.clone()).is_ok() {
            let body = STANDARD.encode(&certificate);
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            pem.push_str(&body);
            pem.push_str("\n-----END CERTIFICATE-----\n");
        }
    }
    pem.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_hosts_authorities_count_where_a_certificate_is_compared() {
        for (url, expected) in [
            ("mysql://h/d", false),
            ("mysql://h/d?ssl-mode=REQUIRED", false),
            ("mysql://h/d?ssl-mode=VERIFY_IDENTITY", true),
            ("mysql://h/d?ssl-mode=VERIFY_CA&ssl-ca=%2Fca.pem", false),
            ("mysql://h/d?ssl-mode=VERIFY_CA&ssl-mode=DISABLED", false),
            ("postgres://h/d?sslmode=verify-full", true),
            ("postgres://h/d?sslmode=verify-full&sslrootcert=ca.pem", false),
        ] {
            assert_eq!(wants_ours(url), expected, "{url}");
        }
    }
}
