// What is copied: URLs for the console, an event as a request to a program on this machine, and as `echostr simulate`.

import type { Sample, Story } from "./api";
import { xmlPieces } from "./highlight";

/** One word of a POSIX shell. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/u.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Posts the CloudEvent, as a forward does, without a signature. */
export function curl(story: Story, to: string): string {
  return [
    `curl -sS -X POST ${shellWord(to)}`,
    "-H 'Content-Type: application/cloudevents+json'",
    `--data-raw ${shellWord(JSON.stringify(story.cloudevent))}`,
  ].join(" \\\n  ");
}

/** What is pasted into the console. */
export function callbackUrl(base: string, path: string): string {
  const host = base.trim().replace(/\/+$/u, "") || "https://HOST";
  return (/^https?:\/\//u.test(host) ? host : `https://${host}`) + path;
}

/** Fields that `simulate` makes new in every event, so that it is not a repeat of this one. */
export const FRESH = new Set(["CreateTime", "TimeStamp", "EventTime", "MsgId", "msgid"]);

/** Path and text of every simple value that `--set` reaches: what is in a list has no path. */
export function leaves(data: unknown, path = ""): [string, string][] {
  if (data === null || data === undefined || Array.isArray(data)) return [];
  if (typeof data !== "object") return path === "" ? [] : [[path, String(data)]];
  return Object.entries(data).flatMap(([name, value]) => leaves(value, path === "" ? name : `${path}.${name}`));
}

/** The sample of the catalogue with the fields of this event. */
export function simulate(story: Story, sample: Sample | null): string {
  const known = new Map(leaves(sample ? sampleTree(sample) : {}));
  const words = [`echostr simulate ${shellWord(story.account)} ${shellWord(story.type)}`];
  if (story.form === "json" && sample?.form === "xml") words.push("--json");
  for (const [path, value] of leaves(story.data)) {
    if (FRESH.has(path) || known.get(path) === value) continue;
    words.push(`--set ${shellWord(`${path}=${value}`)}`);
  }
  return words.join(" \\\n  ");
}

/** A sample as a tree of names and values, whether it is XML or JSON. */
export function sampleTree({ form, payload }: Sample): unknown {
  if (form === "xml") return xmlTree(payload);
  try {
    return JSON.parse(payload);
  } catch {
    return {};
  }
}

interface Node {
  name: string;
  text: string;
  children: [string, unknown][];
}

/** The samples' XML: elements and CDATA, no attributes that matter. Elements of one name are a list. */
function xmlTree(text: string): unknown {
  const root: Node = { name: "", text: "", children: [] };
  const stack: Node[] = [root];
  for (const piece of xmlPieces(text)) {
    const top = stack.at(-1)!;
    if (piece.startsWith("<![CDATA[")) top.text += piece.slice(9, -3);
    else if (piece.startsWith("<!--") || piece.startsWith("<?")) continue;
    else if (piece.startsWith("</")) {
      if (stack.length === 1) return {};
      stack.pop();
      stack.at(-1)!.children.push([top.name, valueOf(top)]);
    } else if (piece.startsWith("<")) {
      const name = /^<([^\s/>]+)/u.exec(piece)?.[1] ?? "";
      if (piece.endsWith("/>")) top.children.push([name, ""]);
      else stack.push({ name, text: "", children: [] });
    } else top.text += unescape(piece);
  }
  const value = root.children[0]?.[1];
  return typeof value === "object" ? value : {};
}

function valueOf(node: Node): unknown {
  if (node.children.length === 0) return node.text.trim();
  const object: Record<string, unknown> = {};
  for (const [name, value] of node.children) {
    if (!Object.hasOwn(object, name)) define(object, name, value);
    else if (Array.isArray(object[name])) (object[name] as unknown[]).push(value);
    else define(object, name, [object[name], value]);
  }
  return object;
}

/** Also of a member that is called `__proto__`. */
function define(object: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
}

const REFERENCES: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

const unescape = (text: string): string =>
  text.replaceAll(/&(lt|gt|amp|quot|apos);/gu, (_, name: string) => REFERENCES[name]!);
