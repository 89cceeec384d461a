# A bot behind [[answer]]: checks the signature (Standard Webhooks), answers a text. Python 3.9 or later, nothing to install.
import base64, hmac, json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))

class Bot(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body, head = self.rfile.read(int(self.headers["content-length"])), self.headers
        signed = f"{head['webhook-id']}.{head['webhook-timestamp']}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
        fresh = abs(time.time() - int(head.get("webhook-timestamp", 0))) < 300
        if not fresh or not any(hmac.compare_digest(expected, it) for it in head.get("webhook-signature", "").split()):
            return self.answer(401, {"error": "wrong signature"})
        self.answer(200, {"text": "echo: " + json.loads(body)["data"].get("Content", "")})

    def answer(self, status, reply):
        reply = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 8000))), Bot).serve_forever()
