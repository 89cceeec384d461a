// Splits a payload into coloured pieces of text. What is shown is only ever text; nothing is parsed into elements.

export type Kind = "name" | "text" | "number" | "word" | "mark" | "note" | "space" | "plain";

export interface Token {
  kind: Kind;
  text: string;
}

/** A longer text is shown without colours: that many elements would make the page slow. */
export const LONGEST = 120_000;

/** As is one of more pieces. */
const MOST = 20_000;

/** The form by the first character, as the server judges it. */
export function formOf(text: string): "xml" | "json" | "plain" {
  const first = text.trimStart()[0];
  if (first === "<") return "xml";
  return first === "{" || first === "[" ? "json" : "plain";
}

/** The pieces of a text; together they are the text. */
export function highlight(text: string): Token[] {
  const plain: Token[] = [{ kind: "plain", text }];
  if (text.length > LONGEST) return plain;
  const form = formOf(text);
  const tokens = form === "xml" ? xml(text) : form === "json" ? json(text) : plain;
  return tokens.length > MOST ? plain : tokens;
}

const JSON_TOKENS =
  /(?<space>\s+)|(?<text>"(?:[^"\\]|\\.)*"?)|(?<number>-?\d[\d.eE+-]*)|(?<word>[a-z]+)|(?<mark>[{}[\],:])|(?<plain>[^\s"{}[\],:]+)/gsu;

function json(text: string): Token[] {
  const tokens: Token[] = [];
  for (const match of text.matchAll(JSON_TOKENS)) {
    const kind = Object.entries(match.groups ?? {}).find(([, value]) => value !== undefined)?.[0] ?? "plain";
    tokens.push({ kind: kind as Kind, text: match[0] });
  }
  // A string before a colon is a name.
  tokens.forEach((token, index) => {
    if (token.text === ":" && token.kind === "mark") {
      const before = tokens.slice(Math.max(0, index - 2), index).findLast((other) => other.kind !== "space");
      if (before?.kind === "text") before.kind = "name";
    }
  });
  return tokens;
}

const XML_TOKENS =
  /(?<cdata><!\[CDATA\[.*?(?:\]\]>|$))|(?<note><!--.*?(?:-->|$)|<[?!][^>]*>?)|(?<tag><\/?)(?<name>[^\s<>/]*)(?<rest>[^<>]*>?)|(?<text>[^<]+)|(?<plain><)/gsu;

function xml(text: string): Token[] {
  const tokens: Token[] = [];
  const push = (kind: Kind, piece: string | undefined) => {
    if (piece) tokens.push({ kind, text: piece });
  };
  for (const { 0: whole, groups = {} } of text.matchAll(XML_TOKENS)) {
    if (groups.cdata !== undefined) {
      const end = whole.endsWith("]]>") ? whole.length - 3 : whole.length;
      push("mark", whole.slice(0, 9));
      push("text", whole.slice(9, end));
      push("mark", whole.slice(end));
    } else if (groups.tag !== undefined) {
      push("mark", groups.tag);
      push("name", groups.name);
      push("mark", groups.rest);
    } else if (groups.note !== undefined) {
      push("note", whole);
    } else if (groups.text !== undefined) {
      push(groups.text.trim() === "" ? "space" : /^\s*-?\d+(\.\d+)?\s*$/u.test(whole) ? "number" : "text", whole);
    } else {
      push("plain", whole);
    }
  }
  return tokens;
}

/** The same with line breaks and indents, values as they are; a text that is not well-formed stays as it came. */
export function pretty(text: string): string {
  if (text.length > LONGEST) return text;
  switch (formOf(text)) {
    case "xml":
      return prettyXml(text) ?? text;
    case "json":
      return prettyJson(text) ?? text;
    case "plain":
      return text;
  }
}

/** A text that is nested deeper than any payload would be mostly indents. */
const DEEPEST = 64;

const indent = (depth: number) => `\n${"  ".repeat(depth)}`;

/** Works on tokens, so that a number with more digits than JavaScript has keeps all of them. */
function prettyJson(text: string): string | null {
  const tokens = json(text).filter((token) => token.kind !== "space");
  if (tokens.some((token) => token.kind === "plain")) return null;
  let depth = 0;
  let out = "";
  for (const [index, token] of tokens.entries()) {
    const before = tokens[index - 1]?.text;
    if (token.kind !== "mark") {
      out += token.text;
    } else if (token.text === "{" || token.text === "[") {
      const close = tokens[index + 1]?.text;
      out += token.text;
      depth += 1;
      if (depth > DEEPEST) return null;
      if (close !== "}" && close !== "]") out += indent(depth);
    } else if (token.text === "}" || token.text === "]") {
      depth -= 1;
      if (depth < 0) return null;
      out += before === "{" || before === "[" ? token.text : indent(depth) + token.text;
    } else if (token.text === ",") {
      out += `,${indent(depth)}`;
    } else {
      out += ": ";
    }
  }
  return depth === 0 ? out : null;
}

/** Tags, comments and CDATA sections, and the text between. What never ends is the last piece: no text takes long. */
export const xmlPieces = (text: string): string[] =>
  text.match(/<!\[CDATA\[.*?(?:\]\]>|$)|<!--.*?(?:-->|$)|<[^>]*>?|[^<]+/gsu) ?? [];

function prettyXml(text: string): string | null {
  const pieces = xmlPieces(text);
  if (pieces.some((piece) => piece.startsWith("<") && !piece.endsWith(">"))) return null;
  let depth = 0;
  let out = "";
  let inline = false;
  const put = (piece: string, at: number) => {
    out += (out === "" ? "" : indent(at)) + piece;
  };
  for (const [index, piece] of pieces.entries()) {
    const isText = !piece.startsWith("<") || piece.startsWith("<![CDATA[");
    if (isText) {
      const blank = piece.trim() === "";
      if (blank && !(pieces[index - 1]?.startsWith("<") && pieces[index + 1]?.startsWith("</"))) continue;
      out += blank ? "" : piece;
      inline = true;
    } else if (piece.startsWith("</")) {
      depth -= 1;
      if (depth < 0) return null;
      if (inline || pieces[index - 1]?.startsWith(piece.replace("/", "").slice(0, -1))) out += piece;
      else put(piece, depth);
      inline = false;
    } else {
      put(piece, depth);
      inline = false;
      if (!piece.endsWith("/>") && !piece.startsWith("<?") && !piece.startsWith("<!")) depth += 1;
      if (depth > DEEPEST) return null;
    }
  }
  return depth === 0 ? out : null;
}
