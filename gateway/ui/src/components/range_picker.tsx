import { useEffect, useRef, useState } from 'preact/hooks';
import { bounds, fromInputValue, RANGE_PRESETS, rangeLabel, toInputValue, type TimeRange } from '../lib/time_range';
import { Icon } from './icons';

interface RangePickerProps {
  readonly range: TimeRange;
  readonly onRange: (range: TimeRange) => void;
}

export function RangePicker({ range, onRange }: RangePickerProps) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);

  useEffect(() => {
    if (!open) return undefined;
    const closeOutside = (event: Event): void => {
      if (event.target instanceof Node && box.current?.contains(event.target) === false) setOpen(false);
    };
    document.addEventListener('pointerdown', closeOutside);
    document.addEventListener('focusin', closeOutside);
    return () => {
      document.removeEventListener('pointerdown', closeOutside);
      document.removeEventListener('focusin', closeOutside);
    };
  }, [open]);

  const choose = (chosen: TimeRange): void => {
    setOpen(false);
    button.current?.focus();
    onRange(chosen);
  };
  return (
    <div
      class="range-picker"
      ref={box}
      onKeyDown={(event) => {
        if (event.key === 'Escape' && open) {
          setOpen(false);
          button.current?.focus();
        }
      }}
    >
      <button type="button" class="button" ref={button} aria-expanded={open} aria-haspopup="dialog" onClick={() => setOpen(!open)}>
        <Icon name="clock" />
        <span class="range-label">{rangeLabel(range)}</span>
        <Icon name="down" />
      </button>
      {open && <RangePopup range={range} onChoose={choose} />}
    </div>
  );
}

function RangePopup({ range, onChoose }: { range: TimeRange; onChoose: (range: TimeRange) => void }) {
  const current = bounds(range, Date.now() / 1000);
  const [from, setFrom] = useState(toInputValue(current.from));
  const [to, setTo] = useState(toInputValue(current.to));
  const fromSeconds = fromInputValue(from);
  const toSeconds = fromInputValue(to);
  const valid = fromSeconds !== null && toSeconds !== null && fromSeconds < toSeconds;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

  return (
    <div class="popup range-popup" role="dialog" aria-label="Time range">
      <div class="range-presets">
        {RANGE_PRESETS.map(({ seconds, label }) => (
          <button
            type="button"
            key={seconds}
            class="menu-item"
            aria-pressed={range.kind === 'relative' && range.seconds === seconds}
            onClick={() => onChoose({ kind: 'relative', seconds })}
          >
            {label}
          </button>
        ))}
      </div>
      <form
        class="range-custom"
        onSubmit={(event) => {
          event.preventDefault();
          if (valid) onChoose({ kind: 'absolute', from: fromSeconds, to: toSeconds });
        }}
      >
        <label>
          From
          <input type="datetime-local" step="1" value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
        </label>
        <label>
          To
          <input type="datetime-local" step="1" value={to} onInput={(event) => setTo(event.currentTarget.value)} />
        </label>
        <p class="hint" role="status">
          {valid ? `Time zone: ${zone}` : 'The start must be before the end.'}
        </p>
        <button type="submit" class="button primary" disabled={!valid}>
          Apply
        </button>
      </form>
    </div>
  );
}
