// Label sets as PromQL text.

export type Labels = Readonly<Record<string, string>>;

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** A PromQL string literal in double quotes. */
export function quote(value: string): string {
  return `"${value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')}"`;
}

function isPlainMetricName(name: string): boolean {
  return METRIC_NAME.test(name);
}

/** A label name as it stands in a selector: quoted only when it has to be. */
function labelNameText(name: string): string {
  return LABEL_NAME.test(name) ? name : quote(name);
}

/** A metric name as a selector of its own. */
export function metricSelector(name: string): string {
  return isPlainMetricName(name) ? name : `{${quote(name)}}`;
}

export function matcherText(name: string, value: string): string {
  return `${labelNameText(name)}=${quote(value)}`;
}

/** A series as PromQL writes it, labels in alphabetical order. */
export function seriesText(labels: Labels): string {
  const metric = labels['__name__'] ?? '';
  const plain = metric === '' || isPlainMetricName(metric);
  const inner = plain ? [] : [quote(metric)];
  for (const name of Object.keys(labels).sort()) {
    if (name !== '__name__') inner.push(matcherText(name, labels[name] ?? ''));
  }
  if (inner.length === 0) return metric === '' ? '{}' : metric;
  return `${plain ? metric : ''}{${inner.join(', ')}}`;
}

/** The labels that all sets share with the same value; nothing when there are fewer than two sets. */
export function commonLabels(sets: readonly Labels[]): Record<string, string> {
  const [first, ...rest] = sets;
  if (first === undefined || rest.length === 0) return {};
  return Object.fromEntries(Object.entries(first).filter(([name, value]) => rest.every((labels) => labels[name] === value)));
}
