# The Debian package: made, looked into, installed, updated, removed, purged. Part of scripts/package.sh.
# shellcheck shell=bash disable=SC2154

step "the package"
has dpkg-deb || die "dpkg-deb is missing (Debian: dpkg)"
stage="$(mktemp -d)"
ends=("$stage")
trap 'for end in "${ends[@]}"; do rm -rf "$end"; done' EXIT

make_deb() { # the version of the package, and how it is compressed
  local root="$stage/$1" share="$stage/$1/usr/share"
  install -D -m 755 "$binary" "$root/usr/bin/echostr"
  # A release has no symbols already.
  if has strip; then strip --strip-unneeded "$root/usr/bin/echostr" 2>/dev/null || true; fi
  install -D -m 644 packaging/echostr.service "$root/usr/lib/systemd/system/echostr.service"
  install -d -m 700 "$root/etc/echostr/secrets"
  # The journal where the unit has its folder, whatever the working directory of a command.
  sed 's|^url = "sqlite://data/echostr.db"|url = "sqlite:///var/lib/echostr/echostr.db"|' config/echostr.toml \
    >"$root/etc/echostr/echostr.toml"
  grep -q '^url = "sqlite:///var/lib/echostr' "$root/etc/echostr/echostr.toml" || die "config/echostr.toml has another url"
  chmod 644 "$root/etc/echostr/echostr.toml"
  # Another architecture's program cannot be asked; what it says is the same.
  "${asked[@]}" man --folder "$share/man/man1"
  gzip -9n "$share"/man/man1/*.1
  install -d "$share/bash-completion/completions" "$share/zsh/vendor-completions" "$share/fish/vendor_completions.d"
  "${asked[@]}" completions bash >"$share/bash-completion/completions/echostr"
  "${asked[@]}" completions zsh >"$share/zsh/vendor-completions/_echostr"
  "${asked[@]}" completions fish >"$share/fish/vendor_completions.d/echostr.fish"
  install -d "$share/doc/echostr"
  install -m 644 README.md docs/install.md docs/operations.md "$share/doc/echostr/"
  gzip -9nc CHANGELOG.md >"$share/doc/echostr/CHANGELOG.md.gz"
  # In Debian's form, and made twice the same of one commit.
  local time
  time="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
  printf 'echostr (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' "$1" \
    "$(sed -n 's/^Maintainer: //p' packaging/debian/control.in)" "$(LC_ALL=C date -u -R -d "@$time")" \
    | gzip -9n >"$share/doc/echostr/changelog.gz"
  cat >"$share/doc/echostr/copyright" <<'COPYRIGHT'
Copyright: the authors of echostr
License: Apache-2.0, whose text is in /usr/share/common-licenses/Apache-2.0
COPYRIGHT
  chmod -R u=rwX,go=rX "$share"
  install -d -m 755 "$root/DEBIAN"
  install -m 755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
  install -m 644 packaging/debian/conffiles "$root/DEBIAN/"
  local size
  size="$(du -sk --exclude=DEBIAN "$root" | cut -f1)"
  sed -e "s|@VERSION@|$1|" -e "s|@ARCH@|$arch|" -e "s|@SIZE@|$size|" -e "s|@DEPENDS@|$depends|" packaging/debian/control.in \
    >"$root/DEBIAN/control"
  (cd "$root" && find . -path ./DEBIAN -prune -o -type f -print0 | sort -z | xargs -0 md5sum | sed 's|  \./|  |') \
    >"$root/DEBIAN/md5sums"
  dpkg-deb --root-owner-group "-Z$2" --build "$root" "$stage/echostr_$1_$arch.deb" >/dev/null
}

# A static program needs nothing but certificates of CAs; another one the libraries of the machine that built it.
depends=ca-certificates
if file -L "$binary" 2>/dev/null | grep -q 'dynamically linked'; then
  libraries=libc6
  if has dpkg-shlibdeps; then
    libraries="$(cd "$(mktemp -d)" && mkdir debian && printf 'Source: echostr\n' >debian/control \
      && dpkg-shlibdeps -O "$binary" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')"
  fi
  depends="${libraries:-libc6}, ca-certificates"
fi
asked=("$binary")
"$binary" --version >/dev/null 2>&1 || asked=("${ECHOSTR:?a program of this architecture, to print the manual with}")

make_deb "$version" xz
make_deb "$version+next" none
deb="$out/echostr_${version}_$arch.deb"
cp "$stage/echostr_${version}_$arch.deb" "$deb"
dpkg-deb --info "$deb" | sed 's/^/  /'
listed="$(dpkg-deb --contents "$deb")"
for path in ./usr/bin/echostr ./etc/echostr/echostr.toml ./usr/lib/systemd/system/echostr.service ./usr/share/man/man1/echostr.1.gz \
  ./usr/share/man/man1/echostr-backup.1.gz ./usr/share/bash-completion/completions/echostr; do
  grep -qF " $path" <<<"$listed" || die "$path is not in the package"
done
grep -q '^drwx------ root/root .* ./etc/echostr/secrets/$' <<<"$listed" || die "others can read the folder of secrets"
if has lintian; then
  # Symbols cannot be taken from a program of another architecture here.
  lintian --fail-on error --suppress-tags unstripped-binary-or-object "$deb" || die "lintian"
else skip "lintian (Debian: lintian)"; fi
echo "made $deb"

step "the unit"
if has systemd-analyze; then
  # A copy whose program is there; everything else is checked as it is.
  sed "s|/usr/bin/echostr|$binary|" packaging/echostr.service >"$stage/echostr.service"
  said="$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$stage/echostr.service" 2>&1 || true)"
  # Units of this machine may have faults of their own.
  if grep -F "echostr.service" <<<"$said"; then die "systemd-analyze verify"; fi
  systemd-analyze security --offline=true --threshold=20 --no-pager "$stage/echostr.service" | tail -n 1
else
  skip "systemd-analyze (Debian: systemd)"
fi
[ -d /run/systemd/system ] || skip "the unit as a service: systemd does not run on this machine"

step "installed, updated, removed, purged"
if [ "$(dpkg --print-architecture)" != "$arch" ]; then
  skip "the installation: this machine is not $arch"
  return 0
fi
root=""
if [ -z "$here" ]; then
  if [ "$(id -u)" != 0 ]; then skip "the installation: it needs root"; return 0; fi
  root="$(mktemp -d)"
  mount -t tmpfs tmpfs "$root" 2>/dev/null || { skip "the installation: a tmpfs cannot be mounted here"; return 0; }
  mkdir "$root/upper" "$root/work" "$root/all"
  if ! mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/all" 2>/dev/null; then
    umount "$root"
    skip "the installation: an overlay of this system cannot be mounted here; --install-here uses the system itself"
    return 0
  fi
  trap 'umount -l "$root/all" "$root" 2>/dev/null; for end in "${ends[@]}"; do rm -rf "$end"; done' EXIT
  mount --bind /dev "$root/all/dev" && mount -t proc proc "$root/all/proc"
  trap 'umount -l "$root/all/dev" "$root/all/proc" "$root/all" "$root" 2>/dev/null; for end in "${ends[@]}"; do rm -rf "$end"; done' EXIT
fi
inside() { if [ -n "$root" ]; then chroot "$root/all" "$@"; else "$@"; fi; }
at() { printf '%s%s' "${root:+$root/all}" "$1"; }
for file in "$stage"/*.deb; do install -D "$file" "$(at "/tmp/echostr-debs/${file##*/}")"; done
debs=/tmp/echostr-debs
unmet="--force-depends" # the libraries are there when the program was built here; certificates need not be
inside dpkg $unmet -i "$debs/echostr_${version}_$arch.deb" >"$stage/log" 2>&1 || { cat "$stage/log"; die "dpkg -i"; }
grep -q 'add an account' "$stage/log" || die "the installation does not say what to do next"
[ "$(inside echostr --version)" = "echostr $version" ] || die "the installed program is another one"
[ "$(stat -c '%a %U' "$(at /etc/echostr/secrets)")" = "700 root" ] || die "others can read the secrets"
inside bash -c '. /usr/share/bash-completion/completions/echostr && complete -p echostr' >/dev/null || die "no completions"
if has man; then
  pages="$(inside man -l -Tutf8 /usr/share/man/man1/echostr-backup.1.gz 2>&1)" || die "man cannot show the page"
  grep -q 'servers may run' <<<"$pages" || die "the manual page has another text"
else
  skip "man (Debian: man-db)"
fi
if has mandoc; then
  for page in "$stage/$version"/usr/share/man/man1/*.gz; do
    gzip -dc "$page" | mandoc -T lint -W error || die "mandoc -T lint: $page"
  done
else
  skip "mandoc -T lint (Debian: mandoc)"
fi

# As systemd runs it: a user of its own, secrets as credentials.
config="$(at /etc/echostr/echostr.toml)"
cat >>"$config" <<'CONFIG'

[mp.shop]
app_id = "wx0000000000000001"
token = { file = "/run/credentials/echostr.service/secret_shop_token" }
mode = "plain"
CONFIG
install -d -m 755 "$(at /run/credentials/echostr.service)" "$(at /var/lib/echostr)"
printf 'atokenofashop' >"$(at /run/credentials/echostr.service/secret_shop_token)"
inside sh -c 'cd / && ECHOSTR_CONFIG=/etc/echostr/echostr.toml echostr check --handlers' || die "the packaged configuration with an account"

# The server as that user, in a network of its own: ready, reachable by its own commands, reloaded, stopped in order.
if has unshare && has setpriv && has ip; then
  serve='
    ip link set lo up && cd /var/lib/echostr && export ECHOSTR_CONFIG=/etc/echostr/echostr.toml HOME=/nonexistent
    setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all echostr serve >/tmp/echostr.log 2>&1 & server=$!
    for _ in $(seq 100); do echostr health >/dev/null 2>&1 && break; sleep 0.1; done
    echostr health && echostr simulate mp/shop text && echostr backup /tmp/echostr.backup && echostr journal check || exit 1
    kill -TERM $server && wait $server'
  chown 65534:65534 "$(at /var/lib/echostr)"
  inside unshare --net bash -c "$serve" >"$stage/log" 2>&1 || { cat "$stage/log" "$(at /tmp/echostr.log)"; die "the installed server"; }
else
  skip "the installed server: unshare, setpriv or ip is missing (Debian: util-linux, iproute2)"
fi

# An update keeps what was changed, without a question; so does the removal. `purge` takes the configuration and the secrets.
printf 'a secret' >"$(at /etc/echostr/secrets/shop_token)"
install -d "$(at /var/lib/echostr)" && touch "$(at /var/lib/echostr/echostr.db)"
inside dpkg $unmet -i "$debs/echostr_${version}+next_$arch.deb" </dev/null >"$stage/log" 2>&1 || { cat "$stage/log"; die "the update"; }
grep -q 'mp.shop' "$config" || die "the update has replaced the configuration"
inside dpkg -r echostr >"$stage/log" 2>&1 || { cat "$stage/log"; die "dpkg -r"; }
[ ! -e "$(at /usr/bin/echostr)" ] || die "the program is there after its removal"
grep -q 'mp.shop' "$config" || die "the removal has taken the configuration"
[ -e "$(at /etc/echostr/secrets/shop_token)" ] || die "the removal has taken the secrets"
inside dpkg -P echostr >"$stage/log" 2>&1 || { cat "$stage/log"; die "dpkg -P"; }
[ ! -e "$(at /etc/echostr)" ] || die "purge leaves the configuration"
[ -e "$(at /var/lib/echostr/echostr.db)" ] || die "purge has taken the journal"
rm -rf "$(at "$debs")"
echo "installed, updated with a changed configuration, removed, purged; the journal stays"
