//! Every signature, checked by the tools of those who install.

use super::*;
use crate::package::contents::{self, Arch, Product};
use crate::package::{archive, deb, rpm};

/// A home of gpg, as whoever has one.
struct Home(PathBuf);

impl Home {
    fn new(dir: &Path, name: &str) -> Self {
        let home = dir.join(name);
        fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
        Self(home)
    }

    fn gpg(&self, args: &[&str]) -> Result<String> {
        output(Command::new("gpg").args(["--batch", "--homedir"]).arg(&self.0).args(args))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let mut agent = Command::new("gpgconf");
        let _ = quiet(agent.arg("--homedir").arg(&self.0).args(["--kill", "gpg-agent"]));
    }
}

#[test]
fn what_is_signed_is_checked_by_gpg_and_rpm_and_nothing_else_passes() {
    let tools = ["gpg", "gpgconf", "rpmsign", "rpmbuild", "ar", "dpkg-deb"];
    if contents::tests::lacks_rpm() || tools.into_iter().any(contents::tests::lacks) {
        return;
    }
    contents::tests::at_root();
    let (job, binary) = contents::tests::to_pack("signed", "1.2.3");
    let owner = Home::new(&job.out, "o");
    owner
        .gpg(&["--passphrase", "", "--quick-gen-key", "nobody@localhost", "rsa2048", "sign"])
        .unwrap();
    let secret = job.out.join("secret.asc");
    fs::write(&secret, owner.gpg(&["--armor", "--export-secret-keys"]).unwrap()).unwrap();
    let key = Key::of(&secret, &job.out.join("k")).unwrap();

    let entries = contents::of(Product::Outrunner, &binary, &job.manual).unwrap();
    let stage = job.out.join("stage");
    contents::stage(&entries, &stage).unwrap();
    let deb = deb::make(&job, Product::Outrunner, Arch::Amd64, &entries, &stage).unwrap();
    let rpm = rpm::make(&job, Product::Outrunner, Arch::Amd64, &entries, &stage).unwrap();
    let keys = job.out.join("keys");
    let checked = |rpm: &Path| {
        let mut call = Command::new("rpmkeys");
        call.arg("--dbpath").arg(&keys);
        output(call.args(["--define", "_pkgverify_level signature", "--checksig"]).arg(rpm))
    };
    assert!(checked(&rpm).is_err(), "an rpm without a signature passes");
    key.deb(&deb).unwrap();
    key.rpm(&rpm).unwrap();
    archive::checksums(&job, &[deb.clone(), rpm.clone()]).unwrap();
    key.checksums(&job).unwrap();
    deb::check(&deb, &entries).unwrap();
    rpm::check(&rpm, &entries).unwrap();

    // Somebody who has the public key only.
    let user = Home::new(&job.out, "u");
    let path = |name: &str| job.out.join(name).display().to_string();
    assert!(checked(&rpm).is_err(), "an unknown key's signature passes");
    user.gpg(&["--import", &path("fleetfoot.asc")]).unwrap();
    quiet(
        Command::new("rpmkeys")
            .arg("--dbpath")
            .arg(&keys)
            .args(["--import", &path("fleetfoot.asc")]),
    )
    .unwrap();
    assert!(checked(&rpm).unwrap().contains("signatures OK"));
    user.gpg(&["--verify", &path("checksums.txt.sig"), &path("checksums.txt")]).unwrap();
    quiet(Command::new("sha256sum").args(["--check", "checksums.txt"]).current_dir(&job.out))
        .unwrap();
    let parts =
        "ar p $0 debian-binary control.tar.gz data.tar.gz >members; ar p $0 _gpgorigin >origin";
    quiet(Command::new("sh").args(["-euc", parts]).arg(&deb).current_dir(&job.out)).unwrap();
    user.gpg(&["--verify", &path("origin"), &path("members")]).unwrap();

    // What was changed by one byte is not what was signed.
    for (name, signature) in [("checksums.txt", "checksums.txt.sig"), ("members", "origin")] {
        let mut bytes = fs::read(job.out.join(name)).unwrap();
        bytes[20] ^= 1;
        fs::write(job.out.join(name), bytes).unwrap();
        assert!(user.gpg(&["--verify", &path(signature), &path(name)]).is_err(), "{name}");
    }
    let mut bytes = fs::read(&rpm).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&rpm, bytes).unwrap();
    assert!(checked(&rpm).is_err());

    let home = key.home.clone();
    drop((key, owner, user));
    assert!(!home.exists(), "the key is left");
    fs::remove_dir_all(&job.out).unwrap();
}

#[test]
fn a_file_without_a_secret_key_signs_nothing() {
    if contents::tests::lacks("gpg") {
        return;
    }
    let file = std::env::temp_dir().join(format!("fleetfoot-no-key-{}", std::process::id()));
    fs::write(&file, "no key\n").unwrap();
    let home = file.with_extension("k");
    assert!(Key::of(&file, &home).is_err());
    assert!(!home.exists());
    fs::remove_file(file).unwrap();
}
