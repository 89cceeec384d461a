// The filter line with suggestions (an ARIA combobox).

import { useEffect, useRef, useState } from "preact/hooks";
import type { Directory } from "../directory";
import { complete, filter, suggestions, type Suggestion, type Vocabulary } from "../query";
import { titled, words } from "../settings";

interface Props {
  line: string;
  change: (line: string) => void;
  directory: Directory;
  /** Subjects that are in the list. */
  subjects: () => string[];
}

export function FilterLine({ line, change, directory, subjects }: Props) {
  const t = words();
  const input = useRef<HTMLInputElement>(null);
  const [caret, setCaret] = useState(line.length);
  const [open, setOpen] = useState(false);
  const [active, setActive] = useState(-1);
  const put = useRef<number | null>(null);

  // The caret goes where the word that was put in ends.
  useEffect(() => {
    if (put.current === null) return;
    input.current?.setSelectionRange(put.current, put.current);
    put.current = null;
  });

  const title = (type: string) => titled(directory.byType.get(type)?.name, "");
  const vocabulary: Vocabulary = { key: (key) => t.filterKeys[key], state: (state) => t.states[state], title };
  const found = open ? suggestions(line, caret, directory.known, subjects(), vocabulary) : [];
  const chosen = active < found.length ? active : -1;

  const choose = (suggestion: Suggestion) => {
    const done = complete(line, caret, suggestion.insert);
    put.current = done.caret;
    setCaret(done.caret);
    setActive(-1);
    change(done.line);
    input.current?.focus();
  };
  const keys = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.preventDefault();
      if (found.length > 0) setOpen(false);
      else input.current?.blur();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && found.length > 0) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      // Before the first and after the last is the line itself.
      const places = found.length + 1;
      setActive(((chosen + 1 + step + places) % places) - 1);
    } else if (event.key === "Enter") {
      const suggestion = found[chosen];
      if (suggestion) {
        event.preventDefault();
        choose(suggestion);
      } else setOpen(false);
    } else if (event.key === "ArrowDown") setOpen(true);
  };
  const unknown = filter(line, directory.known, 0).unknown;
  return (
    <div class="filter" role="search">
      <div class="filter-box">
        <svg viewBox="0 0 16 16" aria-hidden="true">
          <circle cx="7" cy="7" r="4.500" />
          <path d="m10.500 10.500 3.500 3.500" />
        </svg>
        <input
          ref={input}
          id="filter"
          type="text"
          role="combobox"
          aria-label={t.filter}
          aria-expanded={found.length > 0}
          aria-controls="filter-list"
          aria-autocomplete="list"
          {...(chosen >= 0 ? { "aria-activedescendant": `filter-${chosen}` } : {})}
          placeholder={t.filterHint}
          value={line}
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          enterkeyhint="search"
          onInput={(event) => {
            setCaret(event.currentTarget.selectionStart ?? event.currentTarget.value.length);
            setOpen(true);
            setActive(-1);
            change(event.currentTarget.value);
          }}
          onSelect={(event) => setCaret(event.currentTarget.selectionStart ?? 0)}
          onFocus={() => setOpen(true)}
          onBlur={() => setOpen(false)}
          onKeyDown={keys}
        />
        {line !== "" ? (
          <button type="button" class="small plain" onClick={() => change("")} aria-label={t.clear}>
            ×
          </button>
        ) : (
          <kbd aria-hidden="true">/</kbd>
        )}
      </div>
      <ul id="filter-list" role="listbox" aria-label={t.filter} hidden={found.length === 0}>
        {found.map((suggestion, index) => (
          <li
            id={`filter-${index}`}
            role="option"
            aria-selected={index === chosen}
            // The line keeps the focus.
            onMouseDown={(event) => {
              event.preventDefault();
              choose(suggestion);
            }}
          >
            <b>{suggestion.label}</b>
            <span class="quiet">{suggestion.note}</span>
          </li>
        ))}
      </ul>
      {unknown.length > 0 && <p class="hint warn">{t.filterUnknown(unknown.join(" "))}</p>}
    </div>
  );
}
