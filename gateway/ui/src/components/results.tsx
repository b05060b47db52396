import { useMemo, useState } from 'preact/hooks';
import { seriesColor } from '../lib/colors';
import { commonLabels, seriesText, type Labels } from '../lib/labels';
import { chartData } from '../lib/series';
import { localDateTime } from '../lib/time_range';
import { formatValue, unitOf } from '../lib/units';
import type { Outcome } from '../query_runner';
import { Chart } from './chart';
import { Legend } from './legend';
import { ResultTable } from './result_table';

interface GraphProps {
  readonly outcome: Outcome;
  readonly letters: ReadonlyMap<number, string>;
  readonly dark: boolean;
  readonly onZoom: (from: number, to: number) => void;
  readonly onReset: () => void;
}

export function GraphView({ outcome, letters, dark, onZoom, onReset }: GraphProps) {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [highlighted, setHighlighted] = useState<number | null>(null);

  const data = useMemo(
    () => chartData(outcome.rows.flatMap((row) => (row.data?.resultType === 'matrix' ? [{ row: row.id, matrix: row.data.result }] : [])), outcome.window),
    [outcome],
  );
  const unit = useMemo(() => unitOf(outcome.rows.filter((row) => row.data !== null).map((row) => row.expr)), [outcome]);
  const common = useMemo(
    () => new Map(outcome.rows.map(({ id }) => [id, withoutName(commonLabels(data.series.filter((one) => one.row === id).map((one) => one.labels)))])),
    [outcome, data],
  );
  const severalRows = outcome.rows.length > 1;

  const series = useMemo(
    () =>
      data.series.map((one, index) => {
        // A series without labels is best named by what was asked.
        const bare = Object.keys(one.labels).length === 0;
        const short = bare ? exprOf(outcome, one.row) : seriesText(without(one.labels, common.get(one.row) ?? {}));
        return {
          key: one.key,
          // A space that does not break keeps the letter with the name.
          name: severalRows ? `${letters.get(one.row) ?? ''}\u00a0${short}` : short,
          fullName: bare ? short : seriesText(one.labels),
          color: seriesColor(index, dark),
          visible: !hidden.has(one.key),
          last: formatValue(one.last, unit),
        };
      }),
    [data, common, severalRows, letters, dark, hidden, unit],
  );

  const toggle = (key: string): void => {
    const next = new Set(hidden);
    if (!next.delete(key)) next.add(key);
    setHidden(next);
  };
  const isolate = (key: string): void => {
    const others = series.filter((one) => one.key !== key).map((one) => one.key);
    const alone = !hidden.has(key) && others.every((other) => hidden.has(other));
    setHidden(new Set(alone ? [] : others));
  };

  if (data.series.length === 0) {
    if (outcome.rows.every((row) => row.error !== null)) {
      return <p class="nothing">{outcome.rows.length > 1 ? 'No query could be answered; the reasons stand above.' : 'The query could not be answered; the reason stands above.'}</p>;
    }
    return (
      <p class="nothing" role="status">
        {data.histogramsOnly > 0
          ? 'The result holds native histograms only. Draw a line with histogram_quantile, histogram_avg or histogram_count.'
          : `No samples between ${localDateTime(outcome.window.start)} and ${localDateTime(outcome.window.end)}.`}
      </p>
    );
  }
  return (
    <>
      {data.omitted > 0 && (
        <p class="notice warning" role="status">
          {data.series.length} series are drawn, {data.omitted} more are not. Aggregate or narrow the query down to see all.
        </p>
      )}
      <Chart data={data} series={series} unit={unit} dark={dark} highlighted={highlighted} onZoom={onZoom} onReset={onReset} />
      <Legend
        entries={series}
        common={[...common].flatMap(([id, labels]) =>
          Object.keys(labels).length === 0 ? [] : [{ label: `in all${severalRows ? ` of ${letters.get(id) ?? ''}` : ''}`, labels: seriesText(labels) }],
        )}
        onToggle={toggle}
        onIsolate={isolate}
        onHighlight={setHighlighted}
      />
    </>
  );
}

export function TableView({ outcome, letters }: { outcome: Outcome; letters: ReadonlyMap<number, string> }) {
  return (
    <>
      {outcome.rows.map(
        (row) => row.data !== null && <ResultTable key={row.id} letter={letters.get(row.id) ?? ''} expr={row.expr} data={row.data} />,
      )}
      <p class="hint">At {localDateTime(outcome.instant)}</p>
    </>
  );
}

function exprOf(outcome: Outcome, row: number): string {
  const expr = outcome.rows.find(({ id }) => id === row)?.expr ?? '';
  return expr.replace(/\s+/g, ' ').trim();
}

/** The metric's name stays with every line: without it a line says too little. */
function withoutName(labels: Record<string, string>): Labels {
  const { __name__: _name, ...rest } = labels;
  return rest;
}

function without(labels: Labels, left: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => !(name in left)));
}
