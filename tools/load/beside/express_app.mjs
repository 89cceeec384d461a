#!/usr/bin/env node
// What many write instead: the package wechat behind Express. It stores nothing. Takes the same configuration as the server.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The packages are beside the copy of this file that scripts/beside.sh runs.
const require = createRequire(process.argv[1]);
const express = require("express");
const wechat = require("wechat");
const { parse } = require("smol-toml");

const config = parse(readFileSync(process.argv[process.argv.indexOf("--config") + 1], "utf8"));
const app = express();
// The package writes the head before the body, which is then sent in chunks; the load reads bodies by their length.
app.use((_request, response, next) => {
  const { end, writeHead } = response;
  response.writeHead = (status) => response.status(status);
  response.end = (body) => {
    response.writeHead = writeHead;
    response.set("Content-Length", String(Buffer.byteLength(body)));
    return end.call(response, body);
  };
  next();
});
for (const [name, account] of Object.entries(config.mp)) {
  const settings = { token: account.token, appid: account.app_id, encodingAESKey: account.aes_key };
  app.use(`/mp/${name}`, wechat(settings, (request, response) => {
    const message = request.weixin;
    response.reply(message.MsgType === "text" ? `echo: ${message.Content}` : "");
  }));
}
const [host, port] = config.server.listen.split(":");
app.listen(Number(port), host);
