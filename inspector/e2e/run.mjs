// The page in a real browser against a real server: everything that it is for, and what it must never do.
//
//   node e2e/run.mjs PROGRAM      scripts/inspector.sh builds the program and calls this
//
// SHOTS=FOLDER keeps screenshots.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { audit, launch, open, overflow } from "./browser.mjs";
import { events, NEEDLE } from "./journal.mjs";
import { Server, TOKEN, until } from "./process.mjs";

const program = resolve(process.argv[2] ?? "");
const shots = process.env.SHOTS;
const COUNT = 100_000;
const LIMIT_MS = 300;

const VIEWS = ["events", "refusals", "dead", "send", "accounts", "flows"];
const HOSTILE = `<img src="http://evil.invalid/x.png" onerror="alert(1)"><script>alert(2)</script>]]><b>3</b>`;

let view;
const server = new Server(program);
const browser = await launch();
let failed = false;

async function step(name, run) {
  const start = Date.now();
  try {
    const note = await run();
    assert.deepEqual(view?.faults ?? [], []);
    console.log(`ok    ${name}${note ? `: ${note}` : ""} (${Date.now() - start} ms)`);
  } catch (error) {
    failed = true;
    console.error(`FAIL  ${name}: ${error.stack}`);
    if (view) await view.page.screenshot({ path: join(server.folder, "..", "inspector-failed.png") }).catch(() => {});
    throw error;
  }
}

async function shot(name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await view.page.screenshot({ path: join(shots, `${name}.png`) });
}

const $ = (selector) => view.page.locator(selector);
const text = (selector) => $(selector).first().innerText();
const seen = (selector) => $(selector).first().waitFor();
const row = (words) => `.rows .row:has-text("${words}")`;

async function signIn() {
  await seen("input[type=password]");
  await $("input[type=password]").fill(TOKEN);
  await view.page.keyboard.press("Enter");
  await seen(".frame");
}

async function show(name) {
  await view.page.goto(`${server.origin}/#/${name}`);
  await seen(`nav a[aria-current=page][href="#/${name}"]`);
  await until("the view is there", async () => (await $("main .page, main .events").count()) > 0);
  await until("nothing is being loaded", async () => (await $('p[role=status]:has-text("…")').count()) === 0);
}

async function filter(line) {
  await $("#filter").fill(line);
  await until(`the address has ${line}`, async () => decodeURIComponent((await view.page.url()).replaceAll("+", " ")).includes(line));
}

const steps = [
  ["asks for the token, and says when it is wrong", async () => {
    view = await open(browser, server.origin);
    await view.page.goto(server.origin);
    await seen("input[type=password]");
    assert.deepEqual(await audit(view.page), []);
    await shot("login");
    await $("input[type=password]").fill("not the token");
    await view.page.keyboard.press("Enter");
    await seen("#login-problem:has-text('not right')");
    await signIn();
    const cookies = await view.context.cookies();
    assert.ok(cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === "Strict", JSON.stringify(cookies));
    assert.deepEqual(await view.page.evaluate(() => Object.values({ ...localStorage }).filter((value) => value.includes("token"))), []);
  }],
  ["an empty journal says what to do", async () => {
    await seen(".empty:has-text('No events yet')");
    assert.deepEqual(await audit(view.page), []);
    await shot("empty");
  }],
  ["a simulated event arrives by itself", async () => {
    await seen(".connection.is-live");
    await server.simulate("mp/shop", "text", { Content: "你好 inspector", FromUserName: "oAnna" });
    await seen(row("oAnna"));
    assert.match(await text(row("oAnna")), /mp\/shop[\s\S]*mp\.message\.text[\s\S]*answered/u);
  }],
  ["its story: payload, reply, observers", async () => {
    await $(row("oAnna")).first().click();
    await seen(".happened");
    assert.match(await text(".content"), /你好 inspector/u);
    assert.match(await text(".happened .code"), /echo: 你好 inspector/u);
    await until("the observers are done", async () => (await $(".observation .is-done").count()) === 2);
    await $("#tab-fields").click();
    assert.match(await text(".fields"), /FromUserName\s+oAnna/u);
    await $("#tab-cloudevent").click();
    assert.match(await text(".content"), /"specversion": "1.0"/u);
    assert.deepEqual(await audit(view.page), []);
    await shot("story");
  }],
  ["copies as curl and as simulate", async () => {
    await view.context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const copied = async (label) => {
      await $(`.commands button:has-text("${label}")`).click();
      await seen(".commands button:has-text('Copied')");
      return view.page.evaluate(() => navigator.clipboard.readText());
    };
    assert.match(await copied("curl"), /^curl -sS -X POST http:\/\/localhost:3000\/ .*cloudevents\+json.*"specversion":"1.0"/su);
    const command = await copied("simulate");
    assert.match(command, /^echostr simulate mp\/shop mp\.message\.text/u);
    assert.match(command, /--set FromUserName=oAnna/u);
    assert.match(command, /--set 'Content=你好 inspector'/u);
  }],
  ["masked values are masked until they are revealed", async () => {
    await $("#tab-payload").click();
    assert.doesNotMatch(await text(".content"), /<MsgId>\d+/u);
    await $("button:has-text('Reveal')").first().click();
    await $("dialog button[type=submit]").click();
    await seen(".notice:has-text('revealed')");
    await until("the id is there", async () => /MsgId>\D*\d{5,}/u.test(await text(".content")));
  }],
  ["replays to one observer and to all, after a question", async () => {
    await $(".observation:has-text('audit') button").click();
    await seen("dialog:has-text('Replay to audit')");
    await shot("replay");
    assert.deepEqual(await audit(view.page), []);
    await view.page.keyboard.press("Escape");
    await until("nothing is asked any more", async () => (await $("dialog").count()) === 0);
    await $(".observation:has-text('audit') button").click();
    await $("dialog button[type=submit]").click();
    await seen(".notice:has-text('1 observation queued')");
    await view.page.keyboard.press("r");
    await $("dialog button[type=submit]").click();
    await seen(".notice:has-text('Replayed')");
  }],
  ["a payload full of HTML and script is text", async () => {
    await server.simulate("mp/shop", "text", { Content: HOSTILE, FromUserName: "oEve<i>" });
    await $(row("oEve<i>")).first().click();
    await seen(".content:has-text('onerror')");
    for (const tab of ["fields", "cloudevent", "payload"]) {
      await $(`#tab-${tab}`).click();
      assert.match(await text(".content"), /alert\(2\)/u);
    }
    assert.equal(await $("main :is(img, script, iframe, b:text-is('3'))").count(), 0);
    await shot("hostile");
  }],
  ["an answer that takes a while is seen to come", async () => {
    const sent = server.simulate("mp/shop", "text", { Content: "slow", FromUserName: "oSlow" });
    await seen(`${row("oSlow")}:has-text("responding")`);
    await sent;
    await seen(`${row("oSlow")}:has-text("answered")`);
  }],
  ["a responder that fails is shown with its error", async () => {
    await server.simulate("mp/shop", "text", { Content: "please fail", FromUserName: "oFail" });
    await seen(`${row("oFail")}:has-text("default answer")`);
    await $(row("oFail")).first().click();
    await seen(".happened:has-text('no article for the keyword')");
    await view.page.keyboard.press("Escape");
    await until("the story is closed", async () => (await $(".story").count()) === 0);
  }],
  ["filters as one types", async () => {
    await server.simulate("im/chat", "im.command.sns.friend_add");
    await seen(row("im/chat"));
    const shown = async () => (await $(".rows .row").allInnerTexts()).length;
    await filter("state:defaulted");
    await until("one row", async () => (await shown()) === 1);
    await filter("account:im");
    await until("the row of im", async () => (await shown()) === 1 && /im\/chat/u.test(await text(".rows .row")));
    await filter("type:mp.message subject:oAnna");
    await until("the row of oAnna", async () => (await shown()) === 1 && /oAnna/u.test(await text(".rows .row")));
    await filter("inspector");
    await until("the row with that text", async () => (await shown()) === 1 && /oAnna/u.test(await text(".rows .row")));
    await filter("nothing has this");
    await seen(".empty:has-text('No event matches')");
    await $("button:has-text('Clear')").first().click();
    await seen(row("oFail"));
    await $("#filter").fill("");
    await $("#filter").pressSequentially("type:subscr");
    await seen("[role=option]:has-text('mp.event.subscribe')");
    assert.deepEqual(await audit(view.page), []);
    await shot("filter");
    await view.page.keyboard.press("ArrowDown");
    await view.page.keyboard.press("Enter");
    await until("the type is put in", async () => (await $("#filter").inputValue()).startsWith("type:mp.event.subscribe"));
    await $("#filter").fill("");
    await seen(row("oFail"));
    await view.page.keyboard.press("Escape");
    await view.page.keyboard.press("Escape");
  }],
  ["the keyboard is enough", async () => {
    await show("events");
    await view.page.keyboard.press("j");
    await view.page.keyboard.press("j");
    const focused = () => view.page.evaluate(() => document.activeElement?.getAttribute("data-id"));
    const at = await until("a row has the focus", focused);
    await view.page.keyboard.press("Enter");
    await seen(".story");
    assert.ok(view.page.url().includes(at));
    await view.page.keyboard.press("k");
    await until("the one before", async () => !view.page.url().includes(at) && (await $(".story").count()) === 1);
    await view.page.keyboard.press("Escape");
    await until("closed", async () => (await $(".story").count()) === 0);
    await view.page.keyboard.press("p");
    await seen(".pause[aria-pressed=true]");
    await server.simulate("mp/shop", "text", { FromUserName: "oPaused" });
    await seen(".news button:has-text('1 new')");
    assert.equal(await $(row("oPaused")).count(), 0);
    await view.page.keyboard.press("p");
    await seen(row("oPaused"));
    await view.page.keyboard.press("?");
    await seen("dialog:has-text('Keyboard shortcuts')");
    assert.deepEqual(await audit(view.page), []);
    await view.page.keyboard.press("Escape");
    await view.page.keyboard.press("/");
    assert.equal(await view.page.evaluate(() => document.activeElement?.id), "filter");
    await view.page.keyboard.press("Escape");
    await view.page.keyboard.press("Escape");
    await view.page.keyboard.press("g");
    await view.page.keyboard.press("a");
    await seen("h1:has-text('Accounts')");
  }],
  ["a refused request is explained", async () => {
    const query = `signature=${"0".repeat(40)}&timestamp=${Math.floor(Date.now() / 1000)}&nonce=secretNonce&msg_signature=${"1".repeat(40)}&encrypt_type=aes`;
    const response = await fetch(`${server.callbacks}/mp/shop?${query}`, { method: "POST", body: "<xml><ToUserName>gh_1</ToUserName><Encrypt>AAAA</Encrypt></xml>" });
    assert.equal(response.status, 403);
    await show("refusals");
    await seen(".refusal:has-text('wrong_signature')");
    const shown = await text(".refusal");
    assert.match(shown, /mp\/shop/u);
    assert.match(shown, /Compare the Token of the console/u);
    assert.match(await text(".step.is-failed"), /signature/u);
    assert.doesNotMatch(shown, /secretNonce|0000000|1111111/u);
    await shot("refusal");
  }],
  ["sends a sample", async () => {
    await show("send");
    await $(".pick select").selectOption("mp/shop");
    await $(".types input[type=search]").fill("mp.event.subscribe");
    await $(".type-list label:has(code:text-is('mp.event.subscribe'))").click();
    await $("[id='field-FromUserName']").fill("oSample");
    await $("button:has-text('Send')").last().click();
    await seen(".result:has-text('200')");
    assert.match(await text(".result"), /Welcome, 欢迎/u);
    await shot("sent");
    assert.deepEqual(await audit(view.page), []);
    await $(".result a").click();
    await seen(".facts:has-text('oSample')");
  }],
  ["dead letters are retried and dropped, after a question", async () => {
    await server.simulate("mp/shop", "text", { Content: "dead letter", FromUserName: "oDead1" });
    await server.simulate("mp/shop", "text", { Content: "dead letter", FromUserName: "oDead2" });
    await until("both are dead", async () => (await server.ask("/v1/dead")).letters.length === 2);
    await show("dead");
    await seen(".letters tr:has-text('oDead1')");
    assert.match(await text(".letters tbody"), /422 Unprocessable Entity/u);
    await shot("dead");
    await $(".letters tr:has-text('oDead1') button:has-text('Retry')").click();
    await $("dialog button[type=submit]").click();
    await seen(".notice:has-text('Retried: 1')");
    await $(".letters thead input").check();
    await $(".toolbar button:has-text('Drop')").click();
    await seen("dialog:has-text('cannot be undone')");
    await $("dialog button[type=submit]").click();
    await seen(".notice:has-text('Dropped')");
    // The one that was retried fails again, perhaps after the list was read.
    await until("there is none left", async () => {
      const { letters } = await server.ask("/v1/dead");
      if (letters.length === 0) return (await $(".empty:has-text('No dead letters')").count()) > 0;
      await show("events");
      await show("dead");
      await $(".letters thead input").check();
      await $(".toolbar button:has-text('Drop')").click();
      await $("dialog button[type=submit]").click();
      await seen(".notice:has-text('Dropped')");
      return false;
    });
  }],
  ["accounts have a URL for the console and their numbers", async () => {
    await show("accounts");
    await $("input[type=url]").fill("https://callback.example.com");
    const card = ".account:has-text('mp/shop')";
    await seen(`${card} code:text-is("https://callback.example.com/mp/shop")`);
    assert.match(await text(card), /answered\s+\d/u);
    assert.ok((await $(`${card} .plot rect`).count()) > 0);
    await show("flows");
    await seen(".observers tr:has-text('crm')");
    await $(".observers tr:has-text('audit')").waitFor();
  }],
  ["a forward whose target is gone is shown, and resumed", async () => {
    await server.simulate("wecom/team", "wecom.message.text", { FromUserName: "oForward" });
    const card = ".account:has-text('partner')";
    await seen(`${card}:has-text("paused"):has-text("410")`);
    assert.deepEqual(await audit(view.page), []);
    await shot("forward");
    server.targetStatus = 200;
    await $(`${card} button:has-text('Resume')`).click();
    await $("dialog button[type=submit]").click();
    await seen(`${card}:has-text("delivering")`);
    await show("events");
    await $(row("oForward")).first().click();
    await seen(".observation:has-text('forward.partner') .is-done");
    await view.page.keyboard.press("Escape");
  }],
  ["Chinese and English, dark and light: nothing serious for axe-core, nothing wider than 380 px", async () => {
    const { events: [{ id }] } = await server.ask("/v1/events?limit=1&subject=oAnna");
    const state = await view.context.storageState();
    let looked = 0;
    for (const [locale, colorScheme] of [["en", "light"], ["zh-CN", "dark"], ["zh-CN", "light"], ["en", "dark"]]) {
      for (const width of [1280, 380]) {
        const old = view;
        view = await open(browser, server.origin, { locale, colorScheme, viewport: { width, height: 800 }, storageState: { ...state, origins: [] } });
        for (const name of [...VIEWS, `events/${id}`]) {
          await view.page.goto(`${server.origin}/#/${name}`);
          await seen(name.includes("/") ? ".happened" : name === "events" ? ".rows .row, .empty" : ".page h1");
          await until("nothing is being loaded", async () => (await $('p[role=status]:has-text("…")').count()) === 0);
          const found = [...(await audit(view.page))];
          const wider = await overflow(view.page);
          if (wider > 0) found.push(`${wider} px wider than its window`);
          assert.deepEqual(found, [], `${locale} ${colorScheme} ${width} ${name}`);
          assert.equal(await view.page.getAttribute("html", "lang"), locale);
          await shot(`${locale}-${colorScheme}-${width}-${name.replace(/\/.*/u, "-story")}`);
          looked += 1;
        }
        assert.deepEqual(view.faults, []);
        await view.context.close();
        view = old;
      }
    }
    return `${looked} views`;
  }],
  ["the switches of language and theme are remembered", async () => {
    await show("events");
    const background = () => view.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await background();
    await $("button:has-text('中文')").click();
    await seen("nav a:has-text('死信')");
    assert.equal(await view.page.getAttribute("html", "lang"), "zh-CN");
    await view.page.keyboard.press("t");
    await view.page.keyboard.press("t");
    await until("it is dark", async () => (await background()) !== light);
    await view.page.reload();
    await seen("nav a:has-text('死信')");
    assert.notEqual(await background(), light);
    await view.page.keyboard.press("l");
    await view.page.keyboard.press("t");
    await seen("nav a:has-text('Dead letters')");
    assert.equal(await background(), light);
  }],
  ["a lost connection is shown, and what came meanwhile comes then", async () => {
    await show("events");
    await seen(".connection.is-live");
    await server.simulate("mp/shop", "text", { FromUserName: "oBefore" });
    await seen(row("oBefore"));
    const before = server.line.resumed;
    server.line.cut(true);
    await seen(".banner:has-text('connection')");
    await shot("lost");
    await server.simulate("mp/shop", "text", { FromUserName: "oMeanwhile" });
    server.line.cut(false);
    await seen(row("oMeanwhile"));
    await until("it is live again", async () => (await $(".connection.is-live").count()) === 1 && (await $(".banner").count()) === 0);
    assert.ok(server.line.resumed > before, "the stream goes on from the last event");
  }],
  ["a server that starts again asks for the token again", async () => {
    await server.stop();
    await seen(".banner:has-text('connection')");
    server.sql([...events(COUNT)].join(""));
    await server.start();
    await seen("input[type=password]");
    await signIn();
  }],
  [`${COUNT} events: list and filter`, measure],
  ["signing out ends the session", async () => {
    await $("button:has-text('Sign out')").first().click();
    await seen("input[type=password]");
    const status = await view.page.evaluate(() => fetch("/v1/info").then((response) => response.status));
    assert.equal(status, 401);
  }],
];

const median = (times) => [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)];

/** From the input to the frame in which the rows are, in the page's own time. */
async function timed(act, wanted) {
  await view.page.evaluate((wanted) => {
    const fits = () => {
      const rows = [...document.querySelectorAll(".rows .row")];
      const is = new RegExp(wanted, "u");
      return rows.length > 0 && rows.every(({ textContent }) => is.test(textContent));
    };
    globalThis.seen = new Promise((done) => {
      const look = () => (fits() ? done(performance.now()) : requestAnimationFrame(look));
      globalThis.started = performance.now();
      look();
    });
  }, wanted);
  await act();
  return view.page.evaluate(async () => (await globalThis.seen) - globalThis.started);
}

async function measure() {
  const times = {};
  const note = (name, ms) => (times[name] ??= []).push(ms);
  for (let round = 0; round < 5; round += 1) {
    await show("refusals");
    // The list appears in the view that is left out of the page now.
    note("list", await timed(() => view.page.evaluate(() => void (location.hash = "#/events")), "mp|wecom|im"));
    const typed = (line) => () =>
      view.page.evaluate((line) => {
        const input = document.querySelector("#filter");
        Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, line);
        globalThis.started = performance.now();
        input.dispatchEvent(new InputEvent("input", { bubbles: true }));
      }, line);
    note("filter by type", await timed(typed("type:im.command"), "im/chat"));
    note("filter by account", await timed(typed("account:wecom"), "wecom/team"));
    note("filter by state", await timed(typed("state:defaulted"), "default answer"));
    note("filter by subject", await timed(typed("subject:oUser500"), "oUser500"));
    note("filter by a frequent text", await timed(typed("text:message account:wecom/team"), "wecom/team"));
    await typed("")();
    await seen(row("mp/shop"));
  }
  // The rows stay few however far one scrolls.
  const scroll = await view.page.evaluate(async () => {
    const box = document.querySelector(".list .scroll");
    let slowest = 0;
    for (let turn = 0; turn < 60; turn += 1) {
      box.scrollTop = box.scrollHeight;
      const start = performance.now();
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      slowest = Math.max(slowest, performance.now() - start);
      await new Promise((done) => setTimeout(done, 20));
    }
    return { rows: document.querySelectorAll(".rows .row").length, slowest, height: box.scrollHeight };
  });
  assert.ok(scroll.rows < 120, `${scroll.rows} rows are drawn`);
  const start = Date.now();
  await filter(NEEDLE);
  await seen(row("oUser7"));
  const needle = Date.now() - start;
  await $("#filter").fill("");
  await seen(row("mp/shop"));
  for (const [name, all] of Object.entries(times)) {
    console.log(`      ${name}: median ${Math.round(median(all))} ms, best ${Math.round(Math.min(...all))} ms, of ${all.length}`);
  }
  console.log(`      one text in the oldest of ${COUNT} payloads: ${needle} ms; the slowest frame while scrolling: ${Math.round(scroll.slowest)} ms`);
  // The best one, since whatever else the machine does only adds to it.
  const slow = Object.entries(times).filter(([, all]) => Math.min(...all) >= LIMIT_MS);
  assert.deepEqual(slow, [], `not under ${LIMIT_MS} ms`);
}

try {
  await server.prepare();
  await server.start();
  for (const [name, run] of steps) await step(name, run);
} catch (error) {
  if (!failed) console.error(error);
  process.exitCode = 1;
} finally {
  await browser.close();
  await server.close();
}
