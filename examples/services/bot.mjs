// A bot behind [[answer]]: checks the signature (Standard Webhooks), answers a text. Node.js 18 or later, nothing to install.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const key = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");

function isSigned(head, body) {
  const signed = createHmac("sha256", key).update(`${head["webhook-id"]}.${head["webhook-timestamp"]}.`).update(body);
  const expected = Buffer.from(`v1,${signed.digest("base64")}`);
  const isFresh = Math.abs(Date.now() / 1000 - Number(head["webhook-timestamp"])) < 300;
  const given = (head["webhook-signature"] ?? "").split(" ").map((it) => Buffer.from(it));
  return isFresh && given.some((it) => it.length === expected.length && timingSafeEqual(it, expected));
}

createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray());
  const isAuthentic = isSigned(request.headers, body);
  const reply = isAuthentic ? { text: `echo: ${JSON.parse(body).data.Content ?? ""}` } : { error: "wrong signature" };
  response.writeHead(isAuthentic ? 200 : 401, { "content-type": "application/json" }).end(JSON.stringify(reply));
}).listen(Number(process.env.PORT ?? 8000), "127.0.0.1");
