# One bot behind [[answer]] for every platform: texts in chunks, which AI bots show as they come; nobody becomes a friend of `blocked`.
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Bot(BaseHTTPRequestHandler):
    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        chunks = [{"text": "echo: "}, {"text": event["data"].get("Content") or event["data"].get("text", {}).get("content", "")}]
        if event["type"].endswith("im.command.sns.prev_friend_add"):
            chunks = [{"deny": 38001, "info": "blocked"}] if event["data"]["Requester_Account"] == "blocked" else [{}]
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson" if len(chunks) > 1 else "application/json")
        self.end_headers()
        self.wfile.write("\n".join(map(json.dumps, chunks)).encode())

ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 8000))), Bot).serve_forever()
