// Builds the page into dist/, which the server embeds. The result depends on the sources and package-lock.json alone: the
// compressor is one of the packages, because gzip and zlib of different systems write different bytes.
//
//   node build.mjs            writes dist/
//   node build.mjs --check    exits with 1 if dist/ is not what the sources make
//   node build.mjs --tests    writes the unit tests to build/test/
import { readFileSync, readdirSync, mkdirSync, writeFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { gzipSync } from "fflate";

const here = dirname(fileURLToPath(import.meta.url));
const path = (...parts) => join(here, ...parts);

/** All files together, as they are sent. */
const BUDGET = 60 * 1024;

const licence = () =>
  `/*! echostr, Apache-2.0. Contains Preact:\n${readFileSync(path("node_modules/preact/LICENSE"), "utf8").trim()}\n*/`;

async function bundle(entry, options = {}) {
  const result = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    charset: "utf8",
    format: "esm",
    target: "es2022",
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "inline",
    logLevel: "warning",
    ...options,
  });
  return Buffer.from(result.outputFiles[0].contents);
}

const compress = (bytes) => Buffer.from(gzipSync(bytes, { level: 9, mtime: 0 }));

async function files() {
  return {
    "index.html": readFileSync(path("src/index.html")),
    "icon.svg": readFileSync(path("src/icon.svg")),
    "app.js.gz": compress(await bundle("src/main.tsx", { banner: { js: licence() } })),
    "app.css.gz": compress(await bundle("src/styles/main.css")),
  };
}

async function writeTests() {
  rmSync(path("build/test"), { recursive: true, force: true });
  const tests = readdirSync(path("test")).filter((name) => name.endsWith(".test.ts"));
  await build({
    absWorkingDir: here,
    entryPoints: tests.map((name) => `test/${name}`),
    bundle: true,
    platform: "node",
    format: "esm",
    outdir: "build/test",
    outExtension: { ".js": ".mjs" },
    logLevel: "warning",
  });
}

function report(built) {
  let total = 0;
  for (const [name, bytes] of Object.entries(built)) {
    total += bytes.length;
    console.log(`${String(bytes.length).padStart(7)}  ${name}`);
  }
  console.log(`${String(total).padStart(7)}  in all, of at most ${BUDGET}`);
  if (total > BUDGET) {
    console.error("the page is too large");
    process.exitCode = 1;
  }
}

const mode = process.argv[2];
if (mode === "--tests") {
  await writeTests();
} else {
  const built = await files();
  if (mode === "--check") {
    const stale = Object.entries(built).filter(([name, bytes]) => {
      try {
        return !readFileSync(path("dist", name)).equals(bytes);
      } catch {
        return true;
      }
    });
    for (const [name] of stale) console.error(`dist/${name} is not what the sources make: run \`npm run build\``);
    if (stale.length > 0) process.exitCode = 1;
  } else {
    mkdirSync(path("dist"), { recursive: true });
    for (const [name, bytes] of Object.entries(built)) writeFileSync(path("dist", name), bytes);
  }
  report(built);
}
