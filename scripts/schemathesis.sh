#!/usr/bin/env bash
# Asks a server with the tiny model what its own OpenAPI document lets one ask, and more, for some minutes: no status
# 500, and every answer of a kind that the document names.
#
#     scripts/schemathesis.sh [PROGRAM [SECONDS]]
#
# Installs schemathesis below `target` when there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "${1:-target/release/tidemill}")
seconds=${2:-600}
tools=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}/schemathesis")

if [ ! -x "$tools/bin/schemathesis" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet 'schemathesis==4.32.5'
fi

# Where it is run it leaves what it found.
mkdir -p "$tools/found"
cd "$tools/found"
said=$(mktemp)
# A small context bounds how long an answer can be.
"$program" serve --port 0 --ctx-size 256 --n-predict 4 --log-level warn 2>"$said" &
server=$!
trap 'kill "$server" 2>/dev/null; rm -f "$said"' EXIT
for _ in $(seq 600); do
    address=$(sed -n 's/.*listening on \(http[^ ]*\)$/\1/p' "$said")
    [ -n "$address" ] && curl --silent --fail "$address/health" >/dev/null && break
    kill -0 "$server"
    sleep 0.1
done

"$tools/bin/schemathesis" run "$address/openapi.json" --url "$address" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --phases examples,coverage,fuzzing --max-time "$seconds" --max-examples 100000 --continue-on-failure \
    --generation-database none --request-timeout 60 --workers 2 --no-color

# It is still there, and answers.
kill -0 "$server"
curl --silent --fail "$address/v1/chat/completions" --data '{"messages": [{"role": "user", "content": "hi"}]}' >/dev/null
echo "the server answers as before"
