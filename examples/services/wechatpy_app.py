# An application made with wechatpy, as it stands behind the platform itself. Behind echostr: format = "original", with its token and
# key. pip install wechatpy cryptography
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from wechatpy import create_reply, parse_message
from wechatpy.crypto import WeChatCrypto

CRYPTO = WeChatCrypto(os.environ["APP_TOKEN"], os.environ["APP_AES_KEY"], os.environ["APP_ID"])

class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        body = self.rfile.read(int(self.headers["content-length"]))
        opened = CRYPTO.decrypt_message(body, query["msg_signature"], query["timestamp"], query["nonce"])
        message = parse_message(opened)
        reply = create_reply(f"wechatpy: {message.content}" if message.type == "text" else None, message)
        answer = CRYPTO.encrypt_message(reply.render(), query["nonce"], query["timestamp"]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 8000))), Application).serve_forever()
