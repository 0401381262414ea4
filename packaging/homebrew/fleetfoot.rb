# Homebrew formula; `cargo xtask package` fills in version and checksums.
class Fleetfoot < Formula
  desc "Runs GitHub Actions jobs on machines you own"
  homepage "https://github.com/fleetfoot/fleetfoot"
  version "@VERSION@"
  license "Apache-2.0"

  on_macos do
    depends_on arch: :arm64
    url "https://github.com/fleetfoot/fleetfoot/releases/download/v@VERSION@/fleetfoot_@VERSION@_darwin_arm64.tar.gz"
    sha256 "@SHA256_DARWIN@"
  end

  on_linux do
    on_intel do
      url "https://github.com/fleetfoot/fleetfoot/releases/download/v@VERSION@/fleetfoot_@VERSION@_linux_amd64.tar.gz"
      sha256 "@SHA256_AMD64@"
    end
    on_arm do
      url "https://github.com/fleetfoot/fleetfoot/releases/download/v@VERSION@/fleetfoot_@VERSION@_linux_arm64.tar.gz"
      sha256 "@SHA256_ARM64@"
    end
  end

  def install
    bin.install "fleetfoot"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/fleetfoot"
    zsh_completion.install "completions/_fleetfoot"
    fish_completion.install "completions/fleetfoot.fish"
    (etc/"fleetfoot").mkpath
    etc.install "fleetfoot.yml" => "fleetfoot/fleetfoot.yml" unless (etc/"fleetfoot/fleetfoot.yml").exist?
  end

  service do
    run [opt_bin/"fleetfoot", "run", "--config", etc/"fleetfoot/fleetfoot.yml"]
    keep_alive successful_exit: false
    log_path var/"log/fleetfoot.log"
    error_log_path var/"log/fleetfoot.log"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/fleetfoot version")
  end
end
