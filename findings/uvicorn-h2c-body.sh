#!/usr/bin/env bash
# A request that offers HTTP/2 (`Upgrade: h2c`) loses its body under uvicorn with httptools.
#
# One would guess: a server that does not speak h2c ignores the offer and answers the request, body and all, in HTTP/1.1
# (RFC 9110, 7.8: "A server MAY ignore a received Upgrade header field"). uvicorn with h11 does so.
#
# What happens (uvicorn 0.54.0, httptools 0.9.0): the application gets an empty body. Java's HttpClient makes this offer
# with every plain request, `curl --http2` too, so their POSTs fail on http:// and work on https://.
#
# Why: llhttp stops at the end of a head with an upgrade, and httptools tells it that there is no body; uvicorn logs
# "Unsupported upgrade request." and goes on. Neither httptools' nor uvicorn's documentation says so.
#
# Needs python3 with venv, and curl. Exits 0 while it is so, 1 when it has changed.
set -euo pipefail

folder=$(mktemp -d)
server=""
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$server" ] || wait "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0
"$folder/venv/bin/pip" list --disable-pip-version-check 2>/dev/null | grep -E '^(uvicorn|httptools|h11) '
curl --version | head -1

cat >"$folder/length.py" <<'PYTHON'
async def app(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d bytes" % len(body)})
PYTHON

# Prints what two POSTs of five bytes on one connection are answered.
ask() {
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    (cd "$folder" && exec venv/bin/uvicorn length:app --http "$1" --port "$port" --lifespan off --log-level critical) &
    server=$!
    for _ in $(seq 100); do
        curl -s --noproxy '*' -o /dev/null "http://127.0.0.1:$port/" && break
        sleep 0.1
    done
    local url="http://127.0.0.1:$port/" said
    said=$(curl -s --noproxy '*' --max-time 10 "$2" -d hello -w ' %{http_code}; ' "$url" \
        --next -s --noproxy '*' --max-time 10 "$2" -d hello -w ' %{http_code}' "$url" || true)
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=""
    echo "$1 $2: $said" | tee -a "$folder/seen"
}

ask h11 --http1.1
ask h11 --http2
ask httptools --http1.1
ask httptools --http2

good='5 bytes 200; 5 bytes 200'
grep -qx "h11 --http1.1: $good" "$folder/seen" &&
    grep -qx "h11 --http2: $good" "$folder/seen" &&
    grep -qx "httptools --http1.1: $good" "$folder/seen" &&
    grep -qx 'httptools --http2: 0 bytes 200; 0 bytes 200' "$folder/seen" || {
    echo 'it has changed'
    exit 1
}
echo 'as described: behind an offer of h2c, httptools gives no body'
