// The server under test, a connection to it that can be cut, and the platform that sends to it.
import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export const TOKEN = "inspector-test-token-0123456789";

const CONFIG = (ports) => `
[server]
listen = "127.0.0.1:${ports.server}"
[admin]
listen = "127.0.0.1:${ports.admin}"
token = "${TOKEN}"
mask = ["MsgId"]
[journal]
url = "sqlite://journal.db"
[log]
level = "warn"
[mp.shop]
app_id = "wxinspector0000001"
token = "tokenOfInspector"
aes_key = "inspectorAesKeyinspectorAesKeyinspectorAesK"
[wecom.team]
corp_id = "wwinspector0000001"
agent_id = 1000002
token = "tokenOfTeam"
aes_key = "teamAesKeyteamAesKeyteamAesKeyteamAesKeytea"
[im.chat]
sdk_app_id = 1400000000
token = "tokenOfChat"
[[forward]]
name = "partner"
match = "wecom/*"
to = "http://127.0.0.1:${ports.target}/hook"
secret = "whsec_aW5zcGVjdG9yLXRlc3Qtd2ViaG9vay1zZWNyZXQtMQ=="
`;

/** Fails after a while instead of waiting for ever; what it waits for is a condition, not a time. */
export async function until(what, condition, ms = 15_000) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** Passes on what comes, until it is cut. */
class Line {
  #sockets = new Set();
  #cut = false;
  /** Requests that went on from an event. */
  resumed = 0;

  async open(target) {
    this.server = createServer((from) => {
      if (this.#cut) return void from.destroy();
      const to = connect(target, "127.0.0.1");
      from.on("data", (bytes) => (this.resumed += /last[-_]event[-_]id[:=]/iu.test(bytes.toString("latin1")) ? 1 : 0));
      for (const [socket, other] of [[from, to], [to, from]]) {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => {
          this.#sockets.delete(socket);
          other.destroy();
        });
        socket.pipe(other);
      }
    });
    await new Promise((done) => this.server.listen(0, "127.0.0.1", done));
    return this.server.address().port;
  }

  cut(cut) {
    this.#cut = cut;
    if (cut) for (const socket of this.#sockets) socket.destroy();
  }

  close() {
    this.cut(true);
    this.server?.close();
  }
}

export class Server {
  constructor(program) {
    this.program = program;
    this.folder = mkdtempSync(join(tmpdir(), "echostr-inspector-"));
    this.line = new Line();
    this.targetStatus = 410;
  }

  async prepare() {
    this.ports = { server: await freePort(), admin: await freePort() };
    // Where events are forwarded to: it is gone until it is told to be there.
    this.target = http.createServer((request, response) => {
      request.resume();
      response.writeHead(this.targetStatus).end();
    });
    await new Promise((done) => this.target.listen(0, "127.0.0.1", done));
    this.ports.target = this.target.address().port;
    writeFileSync(join(this.folder, "echostr.toml"), CONFIG(this.ports));
    this.origin = `http://127.0.0.1:${await this.line.open(this.ports.admin)}`;
    this.direct = `http://127.0.0.1:${this.ports.admin}`;
    this.callbacks = `http://127.0.0.1:${this.ports.server}`;
  }

  async start() {
    const options = { cwd: this.folder, stdio: ["ignore", "inherit", "inherit"] };
    this.child = spawn(this.program, ["serve", "--config", "echostr.toml"], options);
    const ended = new Promise((done) => this.child.once("exit", done));
    this.ended = ended;
    let code;
    void ended.then((ended) => (code = ended ?? "a signal"));
    await until("the server is ready", async () => {
      if (code !== undefined) throw new Error(`the server ended with ${code}`);
      return fetch(`${this.direct}/readyz`).then((response) => response.ok, () => false);
    });
  }

  async stop() {
    if (this.child?.exitCode === null) this.child.kill("SIGTERM");
    await this.ended;
  }

  /** Asks the event API as a program does. */
  async ask(path) {
    const response = await fetch(this.direct + path, { headers: { authorization: `Bearer ${TOKEN}` } });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** Acts as the platform. */
  async simulate(account, event, set = {}) {
    const fields = Object.entries(set).flatMap(([name, value]) => ["--set", `${name}=${value}`]);
    const args = ["simulate", account, event, ...fields, "--config", "echostr.toml"];
    return promisify(execFile)(this.program, args, { cwd: this.folder });
  }

  /** Runs SQL on the journal while the server is stopped. */
  sql(input) {
    execFileSync("sqlite3", [join(this.folder, "journal.db")], { input, maxBuffer: 1 << 30 });
  }

  async close() {
    await this.stop();
    this.line.close();
    this.target?.close();
    this.target?.closeAllConnections();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
