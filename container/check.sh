#!/bin/sh
# check.sh: build the image and ask the service in it, without a network and on a read-only file
# system. Where nothing can build it, the same steps in a virtual environment, as another user.
set -eu
cd "$(dirname "$0")/.."
name=ffdetect-check-$$

for builder in docker podman; do
    $builder info >/dev/null 2>&1 || continue
    $builder build -t "$name" .
    trap '$builder rm -f "$name" >/dev/null 2>&1; $builder rmi -f "$name" >/dev/null 2>&1' EXIT
    $builder run -d --name "$name" --network none --read-only --tmpfs /tmp --cap-drop ALL \
        -v "$PWD/container:/check:ro" -v "$PWD/examples:/examples:ro" "$name" >/dev/null
    $builder exec "$name" python /check/ask.py /examples/portraits/generated_female3.jpg
    exit
done

echo "no builder here: the same steps in a virtual environment"
place=$(mktemp -d)
service=
trap 'kill $service 2>/dev/null; wait; rm -rf "$place"' EXIT
sh container/install.sh "$place/venv"
cp container/ask.py examples/portraits/generated_female3.jpg "$place"
chmod 755 "$place"
mkdir -m 1777 "$place/tmp"
cd "$place/tmp"
as="env -i PATH=$place/venv/bin:$PATH HOME=$place/tmp TMPDIR=$place/tmp MPLCONFIGDIR=$place/tmp"
as="$as PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1"
if [ "$(id -u)" = 0 ]; then
    other="$as setpriv --reuid=65534 --regid=65534 --clear-groups"
    if $other python -c 'import os, sys; os.execv(sys.executable, [sys.executable, "-c", ""])' 2>/dev/null; then
        as=$other
    else
        echo "another user cannot run $(command -v python3): as root instead"
    fi
fi
$as ffdetect serve --host 127.0.0.1 &
service=$!
$as python "$place/ask.py" "$place/generated_female3.jpg"
kill "$service"
wait "$service"
