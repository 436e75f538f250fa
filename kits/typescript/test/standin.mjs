// A stand-in for a node: it answers requests by a list of functions, and keeps what came.
import { createServer } from 'node:http';

export async function standIn(t, ...answers) {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    asked.push({ method: request.method, path: request.url, headers: request.headers, body, at: performance.now() });
    const answer = answers.shift() ?? says(500, { detail: 'no answer is left' });
    answer(response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}

/** Answers a status and JSON or text. */
export const says = (status, body = '', headers = {}) => (response) => {
  const type = status >= 400 ? 'application/problem+json' : 'application/json';
  response.writeHead(status, { 'content-type': type, ...headers });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
};

/** Closes the connection without an answer. */
export const dies = (response) => response.destroy();

/** Closes the connection in the middle of an answer. */
export const breaksOff = (response) => {
  response.writeHead(202, { 'content-type': 'application/json', 'content-length': 100 });
  response.write('{"id":', () => response.destroy());
};
