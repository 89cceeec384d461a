// A payload or a reply: coloured, indented or as it came. Text nodes only.

import { useMemo, useState } from "preact/hooks";
import { formOf, highlight, pretty } from "../highlight";
import { words } from "../settings";
import { Copy } from "./bits";

export function Code({ text, label, tools = true }: { text: string; label: string; tools?: boolean }) {
  const t = words();
  const [raw, setRaw] = useState(false);
  const shown = useMemo(() => (raw ? text : pretty(text)), [text, raw]);
  const tokens = useMemo(() => highlight(shown), [shown]);
  const canFormat = formOf(text) !== "plain";
  return (
    <div class="code">
      {tools && (
        <div class="code-tools">
          {canFormat && (
            <button type="button" class="small plain" aria-pressed={raw} onClick={() => setRaw(!raw)}>
              {t.raw}
            </button>
          )}
          <Copy text={() => text} class="small plain" />
        </div>
      )}
      <pre tabIndex={0} role="region" aria-label={label}>
        <code>
          {tokens.map(({ kind, text }) =>
            kind === "plain" || kind === "space" ? text : <span class={`t-${kind}`}>{text}</span>,
          )}
        </code>
      </pre>
    </div>
  );
}
