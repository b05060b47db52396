import { useState } from 'preact/hooks';

export interface LegendEntry {
  readonly key: string;
  readonly name: string;
  readonly fullName: string;
  readonly color: string;
  readonly visible: boolean;
  readonly last: string;
}

interface LegendProps {
  readonly entries: readonly LegendEntry[];
  /** Labels left out of the entries' names, because all series of a query share them. */
  readonly common: ReadonlyArray<{ readonly label: string; readonly labels: string }>;
  readonly onToggle: (key: string) => void;
  /** Shows this one alone, or all again when it is alone already. */
  readonly onIsolate: (key: string) => void;
  readonly onHighlight: (index: number | null) => void;
}

const SHOWN_MAX = 50;

export function Legend({ entries, common, onToggle, onIsolate, onHighlight }: LegendProps) {
  const [all, setAll] = useState(false);
  const shown = all ? entries : entries.slice(0, SHOWN_MAX);
  return (
    <section class="legend" aria-label="Legend">
      <p class="hint legend-hint">
        {entries.length} series
        {entries.length > 1 && <span class="legend-keys"> · click to hide, Ctrl-click to show one alone</span>}
        {common.map(({ label, labels }) => (
          <span key={label}>
            {` · ${label} `}
            <code>{labels}</code>
          </span>
        ))}
      </p>
      <ul class="legend-list" onMouseLeave={() => onHighlight(null)}>
        {shown.map((entry, index) => (
          <li key={entry.key}>
            <button
              type="button"
              class={`legend-entry${entry.visible ? '' : ' off'}`}
              aria-pressed={entry.visible}
              title={entry.fullName}
              onClick={(event) => (event.ctrlKey || event.metaKey || event.shiftKey ? onIsolate(entry.key) : onToggle(entry.key))}
              onMouseEnter={() => onHighlight(entry.visible ? index : null)}
              onFocus={() => onHighlight(entry.visible ? index : null)}
              onBlur={() => onHighlight(null)}
            >
              <span class="swatch" style={{ backgroundColor: entry.color }} />
              <span class="legend-name clamped">{entry.name}</span>
              <span class="legend-value">{entry.last}</span>
            </button>
          </li>
        ))}
      </ul>
      {entries.length > SHOWN_MAX && (
        <button type="button" class="button quiet" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? 'Show fewer' : `Show all ${entries.length}`}
        </button>
      )}
    </section>
  );
}
