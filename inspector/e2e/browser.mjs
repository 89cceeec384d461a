// The browser, and what no page may do in it: ask another host, run what a payload says, or be hard to use.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

/** A page that notes what must not happen. */
export async function open(browser, origin, options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en", ...options });
  const page = await context.newPage();
  const faults = [];
  const requests = [];
  page.on("dialog", (dialog) => {
    faults.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("pageerror", (error) => faults.push(`an error: ${error.stack}`));
  page.on("console", (message) => {
    // The browser itself reports answers of 401 and lost connections, which are part of the test.
    const isOfNetwork = /Failed to load resource|ERR_/u.test(message.text());
    if (message.type() === "error" && !isOfNetwork) faults.push(`in the console: ${message.text()}`);
  });
  context.on("request", (request) => {
    requests.push(request);
    if (!request.url().startsWith(`${origin}/`)) faults.push(`a request to ${request.url()}`);
  });
  return { context, page, faults, requests };
}

/** Serious and critical findings of axe-core. */
export async function audit(page) {
  await page.evaluate(AXE);
  // What moves in would be measured half transparent.
  await page.evaluate(async () => {
    const ending = document.getAnimations().filter(({ effect }) => effect?.getTiming().iterations !== Infinity);
    await Promise.allSettled(ending.map(({ finished }) => finished));
  });
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} (${failureSummary})`).join("; ")}`);
}

/** How much wider than its window the page is. */
export const overflow = (page) =>
  page.evaluate(() => {
    const wide = [document.documentElement, document.querySelector("main"), document.querySelector(".events-story")];
    return Math.max(...wide.filter(Boolean).map((element) => element.scrollWidth - element.clientWidth));
  });
