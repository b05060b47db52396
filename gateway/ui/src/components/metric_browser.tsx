import { Fragment } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { Catalog } from '../api/catalog';
import type { MetricMetadata } from '../api/types';
import { matcherText } from '../lib/labels';
import { searchNames } from '../lib/search';
import { Icon } from './icons';

const SHOWN_MAX = 200;

interface BrowserProps {
  readonly catalog: Catalog;
  readonly metricNames: readonly string[] | null;
  readonly problem: string | null;
  readonly onReload: () => void;
  readonly onClose: () => void;
  readonly onMetric: (metric: string) => void;
  readonly onMatcher: (metric: string, label: string, value: string) => void;
}

/** All metrics, their labels and values; a click brings them into the active query. */
export function MetricBrowser(props: BrowserProps) {
  const { catalog, metricNames } = props;
  const [search, setSearch] = useState('');
  const [openMetric, setOpenMetric] = useState<string | null>(null);
  const metadata = useMetadata(catalog, metricNames);
  const found = useMemo(() => searchNames(metricNames ?? [], search), [metricNames, search]);

  return (
    <aside class="browser" id="metric-browser" aria-label="Metric browser">
      <div class="browser-head">
        <label class="field search">
          <Icon name="search" />
          <span class="sr-only">Search metrics</span>
          <input type="search" placeholder="Search metrics" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
        </label>
        <button type="button" class="button quiet icon-only" aria-label="Reload metrics" title="Reload" onClick={props.onReload}>
          <Icon name="refresh" />
        </button>
        <button type="button" class="button quiet icon-only narrow-only" aria-label="Close the metric browser" onClick={props.onClose}>
          <Icon name="close" />
        </button>
      </div>
      <p class="hint browser-count" role="status">
        {countText(metricNames, found.length, search, props.problem)}
      </p>
      <ul class="browser-list">
        {found.slice(0, SHOWN_MAX).map((metric) => (
          <li key={metric}>
            <div class="browser-metric">
              <button
                type="button"
                class="browser-name"
                aria-expanded={openMetric === metric}
                title={[metric, metadata.get(metric)?.help].filter(Boolean).join('\n')}
                onClick={() => setOpenMetric(openMetric === metric ? null : metric)}
              >
                <Icon name={openMetric === metric ? 'down' : 'right'} />
                <span class="browser-text clamped">
                  <BreakableName name={metric} />
                </span>
                <TypeBadge type={metadata.get(metric)?.type} />
              </button>
              <button
                type="button"
                class="button quiet icon-only small"
                aria-label={`Query ${metric}`}
                title="Put into the query"
                onClick={() => props.onMetric(metric)}
              >
                <Icon name="insert" />
              </button>
            </div>
            {openMetric === metric && (
              <MetricLabels catalog={catalog} metric={metric} help={metadata.get(metric)?.help} onMatcher={props.onMatcher} />
            )}
          </li>
        ))}
      </ul>
      {found.length > SHOWN_MAX && <p class="hint">{found.length - SHOWN_MAX} more. Search to narrow the list down.</p>}
    </aside>
  );
}

function countText(names: readonly string[] | null, found: number, search: string, problem: string | null): string {
  if (problem !== null) return problem;
  if (names === null) return 'Loading…';
  if (names.length === 0) return 'No metrics yet.';
  if (search.trim() !== '') return `${found} of ${names.length} metrics`;
  return names.length === 1 ? '1 metric' : `${names.length} metrics`;
}

/** A long name breaks after an underscore rather than within a word. */
function BreakableName({ name }: { name: string }) {
  return (
    <>
      {name.split(/(?<=[_:.])/).map((part, index) => (
        <Fragment key={index}>
          {part}
          <wbr />
        </Fragment>
      ))}
    </>
  );
}

function TypeBadge({ type }: { type: string | undefined }) {
  if (type === undefined || type === '' || type === 'unknown') return null;
  return <span class="badge">{type}</span>;
}

/** Metadata by the name under which samples are stored: a histogram's also under its `_bucket`, `_sum`, `_count`. */
function useMetadata(catalog: Catalog, names: readonly string[] | null): ReadonlyMap<string, MetricMetadata> {
  const [families, setFamilies] = useState<Record<string, MetricMetadata[]>>({});
  useEffect(() => {
    let current = true;
    // The browser is complete without metadata, so a failure here needs no words.
    catalog.metadata().then(
      (answer) => current && setFamilies(answer),
      () => undefined,
    );
    return () => {
      current = false;
    };
  }, [catalog, names]);
  return useMemo(() => {
    const byName = new Map<string, MetricMetadata>();
    for (const name of names ?? []) {
      const family = families[name] ?? families[name.replace(/_(bucket|sum|count|total)$/, '')];
      if (family?.[0] !== undefined) byName.set(name, family[0]);
    }
    return byName;
  }, [families, names]);
}

interface MetricLabelsProps {
  readonly catalog: Catalog;
  readonly metric: string;
  readonly help: string | undefined;
  readonly onMatcher: BrowserProps['onMatcher'];
}

function MetricLabels({ catalog, metric, help, onMatcher }: MetricLabelsProps) {
  const [openLabel, setOpenLabel] = useState<string | null>(null);
  const selector = `{${matcherText('__name__', metric)}}`;
  const labels = useAnswer(() => catalog.labelNames([selector]), [catalog, selector]);
  return (
    <div class="browser-detail">
      {help !== undefined && help !== '' && <p class="browser-help">{help}</p>}
      {labels.problem !== null && <p class="hint">{labels.problem}</p>}
      {labels.items === null && labels.problem === null && <p class="hint">Loading…</p>}
      <ul class="browser-labels">
        {(labels.items ?? [])
          .filter((label) => label !== '__name__')
          .map((label) => (
            <li key={label}>
              <button
                type="button"
                class="browser-label"
                aria-expanded={openLabel === label}
                onClick={() => setOpenLabel(openLabel === label ? null : label)}
              >
                <Icon name={openLabel === label ? 'down' : 'right'} />
                <span class="browser-text clamped" title={label}>{label}</span>
              </button>
              {openLabel === label && (
                <LabelValues catalog={catalog} label={label} selector={selector} onValue={(value) => onMatcher(metric, label, value)} />
              )}
            </li>
          ))}
      </ul>
      {labels.items?.every((label) => label === '__name__') === true && <p class="hint">This metric has no labels.</p>}
    </div>
  );
}

interface LabelValuesProps {
  readonly catalog: Catalog;
  readonly label: string;
  readonly selector: string;
  readonly onValue: (value: string) => void;
}

function LabelValues({ catalog, label, selector, onValue }: LabelValuesProps) {
  const [search, setSearch] = useState('');
  const values = useAnswer(() => catalog.labelValues(label, [selector]), [catalog, label, selector]);
  const found = useMemo(() => searchNames(values.items ?? [], search), [values.items, search]);
  if (values.problem !== null) return <p class="hint">{values.problem}</p>;
  if (values.items === null) return <p class="hint">Loading…</p>;
  return (
    <>
      {values.items.length > 10 && (
        <label class="field search compact">
          <span class="sr-only">Search values of {label}</span>
          <input type="search" placeholder={`Search ${values.items.length} values`} value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
        </label>
      )}
      <ul class="browser-values">
        {found.slice(0, SHOWN_MAX).map((value) => (
          <li key={value}>
            <button type="button" class="chip" title={`Add ${matcherText(label, value)} to the query`} onClick={() => onValue(value)}>
              <span class="clamped">{value}</span>
            </button>
          </li>
        ))}
      </ul>
      {found.length > SHOWN_MAX && <p class="hint">{found.length - SHOWN_MAX} more.</p>}
    </>
  );
}

/** A list from the server, for as long as the component shows it. */
function useAnswer(ask: () => Promise<readonly string[]>, inputs: readonly unknown[]): { items: readonly string[] | null; problem: string | null } {
  const [items, setItems] = useState<readonly string[] | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    let current = true;
    setItems(null);
    setProblem(null);
    ask().then(
      (answer) => current && setItems(answer),
      (error: unknown) => current && setProblem(error instanceof Error ? error.message : String(error)),
    );
    return () => {
      current = false;
    };
  }, inputs);
  return { items, problem };
}
