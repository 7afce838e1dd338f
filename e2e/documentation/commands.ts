/** The shell commands that the documentation tells people to type. */
import { readPages } from './pages.ts';

/** One command of a ```sh block. */
export interface DocumentedCommand {
  /** Path of the page, relative to the repository. */
  readonly page: string;
  /** Of its first line, from 1. */
  readonly line: number;
  /** On one line, without the remark behind it. */
  readonly text: string;
}

/** Two spaces set a remark off; a single one may stand in an argument. */
const REMARK = / {2,}#.*$|^#.*$/;

/** The commands of one page, in their order. */
export function commandsOf(page: string, markdown: string): DocumentedCommand[] {
  const commands: DocumentedCommand[] = [];
  let inShell = false;
  let begun: { line: number; text: string } | undefined;
  for (const [index, line] of markdown.split('\n').entries()) {
    if (line.startsWith('```')) {
      inShell = !inShell && /^```sh\s*$/.test(line);
      continue;
    }
    const text = line.replace(REMARK, '').trim();
    if (!inShell || text === '') continue;
    const whole: { line: number; text: string } =
      begun === undefined ? { line: index + 1, text } : { line: begun.line, text: `${begun.text} ${text}` };
    begun = undefined;
    if (whole.text.endsWith('\\')) begun = { line: whole.line, text: whole.text.slice(0, -1).trim() };
    else commands.push({ page, ...whole });
  }
  return commands;
}

/** Every command of the documentation. */
export async function documentedCommands(): Promise<DocumentedCommand[]> {
  return (await readPages()).flatMap(({ path, markdown }) => commandsOf(path, markdown));
}
