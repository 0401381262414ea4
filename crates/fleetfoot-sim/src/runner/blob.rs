//! What a JIT config says.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use thiserror::Error;

/// Why a JIT config cannot be used.
#[derive(Debug, Error)]
pub enum BlobError {
    /// It is not base64 of a map of files.
    #[error("the JIT config is not base64 of a JSON object")]
    Shape,
    /// A file is missing or cannot be read.
    #[error("the JIT config has no usable `{0}`")]
    File(&'static str),
}

/// The part of a JIT config the stand-in needs.
#[derive(Clone)]
pub struct Blob {
    /// Runner name.
    pub name: String,
    pub(crate) url: String,
    pub(crate) credential: String,
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Blob").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Blob {
    /// Reads an encoded JIT config.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(encoded: &str) -> Result<Self, BlobError> {
        let files: Value = STANDARD
            .decode(encoded.trim())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or(BlobError::Shape)?;
        let file = |name: &'static str| {
            files[name]
                .as_str()
                .and_then(|text| STANDARD.decode(text).ok())
                .ok_or(BlobError::File(name))
        };
        Self::from_files(&file(".runner")?, &file(".credentials")?)
    }

    /// Reads the files that a configured runner has in its directory.
    ///
    /// # Errors
    /// When they are not there or not readable.
    pub fn from_directory(directory: &Path) -> Result<Self, BlobError> {
        let file = |name: &'static str| {
            std::fs::read(directory.join(name)).map_err(|_| BlobError::File(name))
        };
        Self::from_files(&file(".runner")?, &file(".credentials")?)
    }

    fn from_files(runner: &[u8], credentials: &[u8]) -> Result<Self, BlobError> {
        let runner: Value =
            serde_json::from_slice(runner).map_err(|_| BlobError::File(".runner"))?;
        let credentials: Value =
            serde_json::from_slice(credentials).map_err(|_| BlobError::File(".credentials"))?;
        let text = |value: &Value, file: &'static str| {
            value.as_str().map(str::to_owned).ok_or(BlobError::File(file))
        };
        Ok(Self {
            name: text(&runner["AgentName"], ".runner")?,
            url: text(&runner["ServerUrl"], ".runner")?,
            credential: text(&credentials["Data"]["ClientId"], ".credentials")?,
        })
    }
}
