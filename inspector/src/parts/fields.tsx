// The typed view of an event: names and values, nested as they are.

import { lang, words } from "../settings";
import { fullTime, relative, timeOfField } from "../time";

/** Rows of one table; more would make the page slow, and the payload is there for the rest. */
const MOST_ROWS = 2000;

interface Row {
  depth: number;
  name: string;
  value: unknown;
}

function rows(data: unknown, name: string, depth: number, into: Row[]): Row[] {
  if (into.length >= MOST_ROWS) return into;
  const isTree = typeof data === "object" && data !== null;
  if (name !== "") into.push({ depth, name, value: isTree && Object.keys(data).length > 0 ? undefined : data });
  if (!isTree) return into;
  const inner = name === "" ? depth : depth + 1;
  for (const [key, value] of Object.entries(data)) rows(value, Array.isArray(data) ? `[${key}]` : key, inner, into);
  return into;
}

function Value({ name, value }: { name: string; value: unknown }) {
  if (value === undefined) return null;
  const time = timeOfField(name, value);
  const kind = value === null ? "word" : typeof value === "number" ? "number" : typeof value === "boolean" ? "word" : "text";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return (
    <>
      <span class={`t-${kind}`}>{text === "" ? <i class="quiet">{words().emptyPayload}</i> : text}</span>
      {time && (
        <span class="quiet">
          {" "}
          {fullTime(time)} · {relative(time, Date.now(), lang())}
        </span>
      )}
    </>
  );
}

export function Fields({ data }: { data: unknown }) {
  const t = words();
  const all = rows(data, "", 0, []);
  if (all.length === 0) return <pre class="loose">{typeof data === "string" ? data : JSON.stringify(data)}</pre>;
  return (
    <table class="fields">
      <thead class="unseen">
        <tr>
          <th scope="col">{t.field}</th>
          <th scope="col">{t.value}</th>
        </tr>
      </thead>
      <tbody>
        {all.map(({ depth, name, value }) => (
          <tr>
            <th scope="row">
              <span style={{ paddingInlineStart: `${Math.min(depth, 8)}em` }}>{name}</span>
            </th>
            <td>
              <Value name={name} value={value} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
