#!/usr/bin/env python3
"""What many write instead: wechatpy behind Flask, on waitress. It stores nothing. Takes the same configuration as the server."""
import sys
import tomllib

from flask import Flask, request
from waitress import serve
from wechatpy import create_reply, parse_message
from wechatpy.crypto import WeChatCrypto
from wechatpy.utils import check_signature

with open(sys.argv[sys.argv.index("--config") + 1], "rb") as file:
    config = tomllib.load(file)
app = Flask(__name__)


def answer(xml):
    message = parse_message(xml)
    if message.type != "text":
        return None
    return create_reply(f"echo: {message.content}", message).render()


@app.post("/mp/<name>")
def receive(name):
    account, query = config["mp"][name], request.args
    if "aes_key" not in account:
        check_signature(account["token"], query["signature"], query["timestamp"], query["nonce"])
        return answer(request.data) or "success"
    crypto = WeChatCrypto(account["token"], account["aes_key"], account["app_id"])
    xml = crypto.decrypt_message(request.data, query["msg_signature"], query["timestamp"], query["nonce"])
    reply = answer(xml)
    return crypto.encrypt_message(reply, query["nonce"], query["timestamp"]) if reply else "success"


serve(app, listen=config["server"]["listen"], threads=8, _quiet=True)
