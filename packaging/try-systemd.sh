#!/bin/bash
# Starts the packaged unit under a real systemd: PID 1 of namespaces of its own, on an overlay of this machine's root, which
# it does not change. A credential by LoadCredential=, by LoadCredentialEncrypted= where this systemd can make one, by a file,
# and by the environment file of either unit; jobs as processes, which must survive `systemctl restart` and `reload`; the unit
# in the original's place. Debian 12, root.
#   packaging/try-systemd.sh BINARY
set -eu
binary=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
skip() { echo "SKIPPED: needs $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip root
[ -x /lib/systemd/systemd ] || skip systemd
unshare --pid --mount --fork true 2>/dev/null || skip namespaces
grep -q overlay /proc/filesystems || skip overlay file systems
dir=$(mktemp -d /tmp/fleetfoot-systemd.XXXX)

inside=$dir/inside.sh
cat >"$inside" <<'I'
#!/bin/bash
# In the namespaces: makes a root and becomes its systemd.
set -e
mount -t tmpfs tmpfs "$DIR/root"
mkdir "$DIR"/root/{upper,work,root}
root=$DIR/root/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$DIR/root/upper,workdir=$DIR/root/work" "$root"
ip link set lo up
mount -t proc proc "$root/proc"
for at in run tmp sys; do mount -t tmpfs tmpfs "$root/$at"; done
mkdir -p "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mkdir "$root/sys/fs/cgroup/systemd"
mount -t cgroup -o none,name=systemd,xattr cgroup "$root/sys/fs/cgroup/systemd"
mount --bind /dev "$root/dev"
mount --bind "$DIR/said" "$root/srv"
# Credentials are mounted in a namespace of their own and must come out of it.
mount --make-rshared "$root"
rm -rf "$root"/etc/systemd/system/* "$root/etc/machine-id" "$root/etc/fstab"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
mkdir -p "$root/opt/runner" "$root/etc/fleetfoot" "$root/etc/outrunner" "$root/etc/systemd/system/"{fleetfoot,outrunner}.service.d
cp "$BINARY" "$root/usr/bin/fleetfoot"
cp "$BINARY" "$root/usr/bin/outrunner"
cp "$BINARY" "$root/opt/runner/run.sh"
cp "$HERE/systemd/"{fleetfoot,outrunner}.service "$root/etc/systemd/system/"
cp "$HERE/config/fleetfoot.yml" "$root/etc/shipped.yml"
cp "$DIR/trial.sh" "$root/etc/fleetfoot/"
for name in fleetfoot outrunner; do
    grep -q "^$name:" "$root/etc/passwd" || useradd -R "$root" -r -M -d "/var/lib/$name" "$name"
done
cat >"$root/etc/systemd/system/box.service" <<'U'
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/fleetfoot sim serve --port 18080
StandardOutput=file:/srv/box
U
cat >"$root/etc/systemd/system/trial.service" <<'U'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash /etc/fleetfoot/trial.sh
StandardOutput=file:/srv/trial
StandardError=file:/srv/trial
U
printf '[Unit]\nDefaultDependencies=no\nWants=trial.service\n' >"$root/etc/systemd/system/trial.target"
exec env -i container=fleetfoot-trial PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$root" /lib/systemd/systemd --unit=trial.target --log-target=console
I

cat >"$dir/trial.sh" <<'T'
#!/bin/bash
# The trial, a service of that systemd.
fail() { echo "FAILED: $*"; tail -n 12 /srv/daemon; echo end >/srv/end; exit 1; }
trap 'echo end >/srv/end' EXIT
status() { fleetfoot status --state-dir /var/lib/fleetfoot; }
level() { for _ in $(seq 150); do if eval "$2"; then return 0; fi; sleep 0.2; done; status; fail "$1"; }
drop_in() {
    printf '[Unit]\nDefaultDependencies=no\n[Service]\nStandardOutput=append:/srv/daemon\nStandardError=append:/srv/daemon\n%s\n' "$1" \
        | tee /etc/systemd/system/outrunner.service.d/trial.conf >/etc/systemd/system/fleetfoot.service.d/trial.conf
    systemctl daemon-reload
}
config() {
    printf 'url: http://127.0.0.1:18080/box\n%srunners:\n  one:\n    labels: [one]\n    max_runners: 2\n    process:\n      runner_dir: /opt/runner\n      runner_cmd: ./run.sh\n' "$1" \
        >/etc/fleetfoot/fleetfoot.yml
}
secret=ghp_fleetfootbox
systemctl start box.service || fail "the box"
level "the box is not ready" 'grep -q url /srv/box'

config ''
(umask 077; echo $secret >/etc/fleetfoot/token)
drop_in 'LoadCredential=github-token:/etc/fleetfoot/token'
systemctl start fleetfoot.service || fail "start with LoadCredential"
level "LoadCredential: not ready" 'status | grep -q ready,'
echo "ok: LoadCredential="

fleetfoot sim job --box http://127.0.0.1:18080 --pool one --count 2 --duration 8s
level "no two jobs run" '[ "$(status | grep -c " running  *[0-9]")" = 2 ]'
before=$(systemctl show -P MainPID fleetfoot)
jobs=$(pgrep -f /instances/ | sort | tr '\n' ' ')
systemctl restart fleetfoot.service || fail restart
level "not ready after the restart" 'status | grep -q ready,'
[ "$(systemctl show -P MainPID fleetfoot)" != "$before" ] || fail "the same process after the restart"
[ "$(pgrep -f /instances/ | sort | tr '\n' ' ')" = "$jobs" ] || fail "the restart touched the jobs"
systemctl reload fleetfoot.service || fail reload
[ "$(pgrep -f /instances/ | sort | tr '\n' ' ')" = "$jobs" ] || fail "the reload touched the jobs"
level "the jobs did not end well" 'fleetfoot sim state --box http://127.0.0.1:18080 | grep -q "2 done (0 lost)"'
level "something is left" 'status | grep -q "no instances"'
echo "ok: restart and reload with two running jobs"

systemctl stop fleetfoot.service && [ "$(systemctl show -P Result fleetfoot)" = success ] || fail stop
if echo -n $secret | systemd-creds encrypt --with-key=host --name=github-token - /etc/fleetfoot/token.cred 2>/dev/null; then
    drop_in 'LoadCredentialEncrypted=github-token:/etc/fleetfoot/token.cred'
    systemctl start fleetfoot.service || fail "start with LoadCredentialEncrypted"
    level "LoadCredentialEncrypted: not ready" 'status | grep -q ready,'
    systemctl stop fleetfoot.service
    echo "ok: LoadCredentialEncrypted="
else
    echo "left out: LoadCredentialEncrypted=, this systemd makes no encrypted credential here"
fi

chown fleetfoot /etc/fleetfoot/token
config 'token_file: /etc/fleetfoot/token
'
drop_in ''
systemctl start fleetfoot.service || fail "start with token_file"
level "token_file: not ready" 'status | grep -q ready,'
systemctl stop fleetfoot.service
echo "ok: token_file"

config ''
(umask 077; echo "GITHUB_TOKEN=$secret" | tee /etc/outrunner/env >/etc/fleetfoot/env)
systemctl start fleetfoot.service || fail "start with the environment file"
level "the environment file: not ready" 'status | grep -q ready,'
systemctl stop fleetfoot.service
rm /etc/fleetfoot/env
echo "ok: EnvironmentFile="

# The unit in the original's place, by its name, with its paths and its log.
cp /etc/fleetfoot/fleetfoot.yml /etc/outrunner/config.yml
chown -R outrunner /etc/outrunner
systemctl start outrunner.service || fail "start of outrunner.service"
level "outrunner does not listen" 'grep -q "Listening for jobs scaleSet=one maxRunners=2" /srv/daemon'
fleetfoot status --state-dir /var/lib/outrunner | grep -q ready, || fail "the command does not find outrunner"
fleetfoot sim job --box http://127.0.0.1:18080 --pool one --count 1 --duration 1s
level "its job did not end well" 'fleetfoot sim state --box http://127.0.0.1:18080 | grep -q "3 done (0 lost)"'
systemctl restart outrunner.service || fail "restart of outrunner.service"
systemctl stop outrunner.service && [ "$(systemctl show -P Result outrunner)" = success ] || fail "stop of outrunner.service"
grep -q "Shut down cleanly" /srv/daemon || fail "outrunner did not say that it ended"
echo "ok: outrunner.service"

# As installed, without runners: a few starts, then systemd leaves it alone. In the unit they are 5 s apart.
cp /etc/shipped.yml /etc/fleetfoot/fleetfoot.yml
drop_in 'RestartSec=100ms'
systemctl reset-failed fleetfoot.service
! systemctl start fleetfoot.service 2>/dev/null || fail "it starts without runners"
level "it restarts for ever" '[ "$(systemctl show -P ActiveState fleetfoot)" = failed ]'
grep -q "runners" /srv/daemon || fail "it does not say what is missing"
tried=$(systemctl show -P NRestarts fleetfoot)
[ "$tried" -ge 5 ] && [ "$tried" -le 10 ] || fail "it was started $tried times again"
echo "ok: without runners it gives up"
echo PASSED
T

mkdir "$dir/root" "$dir/said"
env DIR="$dir" BINARY="$binary" HERE="$here" \
    timeout -s KILL 180 unshare --pid --mount --uts --ipc --net --cgroup --fork --kill-child bash "$inside" >"$dir/systemd.log" 2>&1 &
manager=$!
for _ in $(seq 900); do
    [ ! -e "$dir/said/end" ] && kill -0 $manager 2>/dev/null || break
    sleep 0.2
done
# Its child first: once its parent is gone nobody finds it by that.
pkill -KILL -P $manager 2>/dev/null || true
kill -KILL $manager 2>/dev/null || true
wait $manager 2>/dev/null || true
cat "$dir/said/trial" 2>/dev/null || tail -n 20 "$dir/systemd.log"
passed=$(grep -c PASSED "$dir/said/trial" 2>/dev/null || true)
for _ in $(seq 50); do rm -rf "$dir" 2>/dev/null && break; sleep 0.1; done
[ "$passed" = 1 ]
