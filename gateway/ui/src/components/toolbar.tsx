import { useEffect, useState } from 'preact/hooks';
import { formatDuration, parseDuration } from '../lib/duration';
import { bounds, scaled, shifted, stepProblem, type TimeRange } from '../lib/time_range';
import { REFRESH_SECONDS } from '../lib/url_state';
import { Icon } from './icons';
import { RangePicker } from './range_picker';

interface ToolbarProps {
  readonly range: TimeRange;
  readonly step: number | null;
  /** The step of the last answer, shown when the page chooses it. */
  readonly usedStep: number | null;
  readonly refresh: number;
  readonly loading: boolean;
  readonly onRange: (range: TimeRange) => void;
  readonly onStep: (step: number | null) => void;
  readonly onRefresh: (seconds: number) => void;
  readonly onRun: () => void;
}

const now = (): number => Date.now() / 1000;

export function Toolbar(props: ToolbarProps) {
  const { range, onRange } = props;
  return (
    <div class="toolbar" role="toolbar" aria-label="Time">
      <div class="button-group">
        <button type="button" class="button icon-only" aria-label="Earlier" title="Earlier" onClick={() => onRange(shifted(range, now(), -0.5))}>
          <Icon name="left" />
        </button>
        <RangePicker range={range} onRange={onRange} />
        <button type="button" class="button icon-only" aria-label="Later" title="Later" onClick={() => onRange(shifted(range, now(), 0.5))}>
          <Icon name="right" />
        </button>
        <button type="button" class="button icon-only" aria-label="Zoom out" title="Zoom out" onClick={() => onRange(scaled(range, now(), 2))}>
          <Icon name="zoomOut" />
        </button>
      </div>
      <StepInput range={range} step={props.step} usedStep={props.usedStep} onStep={props.onStep} />
      <label class="field" title="Live refresh">
        <Icon name="refresh" />
        <span class="sr-only">Live refresh</span>
        <span class="wide-only" aria-hidden="true">
          Live
        </span>
        <select value={String(props.refresh)} onChange={(event) => props.onRefresh(Number(event.currentTarget.value))}>
          {REFRESH_SECONDS.map((seconds) => (
            <option value={String(seconds)} key={seconds}>
              {seconds === 0 ? 'Off' : `${seconds} s`}
            </option>
          ))}
        </select>
      </label>
      <button type="button" class="button primary run" onClick={props.onRun} title="Run all queries (Enter)" aria-busy={props.loading}>
        <Icon name="play" />
        Run
      </button>
    </div>
  );
}

interface StepInputProps {
  readonly range: TimeRange;
  readonly step: number | null;
  readonly usedStep: number | null;
  readonly onStep: (step: number | null) => void;
}

function StepInput({ range, step, usedStep, onStep }: StepInputProps) {
  const shown = step === null ? '' : formatDuration(step);
  const [draft, setDraft] = useState(shown);
  useEffect(() => setDraft(shown), [shown]);

  const problem = problemOf(draft, range);
  const commit = (): void => {
    if (problem === null) onStep(draft.trim() === '' ? null : parseDuration(draft));
  };
  return (
    <label class={`field${problem === null ? '' : ' invalid'}`} title={problem ?? 'Step between points; empty: chosen by the page'}>
      <span>Step</span>
      <input
        class="step-input"
        type="text"
        value={draft}
        placeholder={usedStep === null ? 'auto' : `auto ${formatDuration(usedStep)}`}
        aria-label="Step between points, for example 15s; empty for automatic"
        aria-invalid={problem !== null}
        onInput={(event) => setDraft(event.currentTarget.value)}
        onBlur={commit}
        onKeyDown={(event) => {
          if (event.key === 'Enter') commit();
          if (event.key === 'Escape') setDraft(shown);
        }}
      />
    </label>
  );
}

function problemOf(draft: string, range: TimeRange): string | null {
  if (draft.trim() === '') return null;
  const step = parseDuration(draft);
  if (step === null) return 'Write a duration such as 15s, 1m or 1h30m.';
  const { from, to } = bounds(range, now());
  return stepProblem(to - from, step);
}
