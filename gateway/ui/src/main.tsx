import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './styles/tokens.css';
import './styles/controls.css';
import './styles/layout.css';
import './styles/browser.css';
import './styles/results.css';
import { App } from './app';

const host = document.getElementById('app');
if (host !== null) render(<App />, host);
