//! Lowering of `myshoes`: variables are taken as they are, but for secrets, which have another place.

use super::super::findings::Class;
use super::super::shape::{Placed, Table};
use super::super::types::MyshoesSettings;
use super::Lowering;

/// Variables that are secrets, or may hold one.
const SECRETS: [&str; 6] = [
    "GITHUB_APP_SECRET",
    "GITHUB_PRIVATE_KEY_BASE64",
    "MYSQL_URL",
    "MYSQL_PASSWORD",
    "DATABASE_URL",
    "DOCKER_HUB_PASSWORD",
];

impl Lowering<'_> {
    pub(super) fn myshoes(&mut self, table: &Table) -> MyshoesSettings {
        let pairs = table.pairs("variables");
        for (name, _) in pairs.iter().filter(|(name, _)| SECRETS.contains(&name.value.as_str())) {
            let path = format!("myshoes.variables.{}", name.value);
            let message = "a secret must not stand in this file";
            self.findings
                .error(Class::Value, path, Some(name.position), message)
                .suggest("put it into the file that `myshoes.env_file` names");
        }
        let pair = |(name, value): &(Placed<String>, Placed<String>)| {
            (name.value.clone(), value.value.clone())
        };
        let variables = pairs.iter().map(pair).collect();
        MyshoesSettings { env_file: table.path("env_file"), variables }
    }
}
