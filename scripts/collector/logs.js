// The door for logs: a host can add lines to the indexes of the logs, and nothing else.
//
// Elasticsearch takes deletions, and documents of any index, by the same address as new lines; so each request is checked
// before it is passed on. Elasticsearch may refuse single lines in an answer with status 200: rsyslog and Fluent Bit then lose lines,
// or send the same ones for ever. So the answer to them is all or nothing, and they send all of it again: existing lines stay unchanged.
import enrolled from '@ETC@/enrolled.js';

const ACTION = /^\{"create":\{\s*"_index":\s*"labtools-logs-\d{4}-\d{2}-\d{2}"(,\s*"_id":\s*"[\w-]{1,64}")?\s*\}\}$/;

async function bulk(r) {
    const host = /^CN=([a-z0-9][a-z0-9.-]*)$/.exec(r.variables.ssl_client_s_dn);
    if (!host || !enrolled.is(r, host[1])) {
        return r.return(403, 'this host is not enrolled, or with another key; see collector enroll\n');
    }
    const lines = (r.requestText || '').split('\n');
    // Lines come in pairs, an action and its document, and each ends.
    if (lines.length % 2 === 0 || lines.pop() !== '' || lines.some((line, n) => n % 2 === 0 ? !ACTION.test(line) : line === '')) {
        return r.return(403, 'a host creates lines in labtools-logs-YYYY-MM-DD, and does nothing else\n');
    }
    if (lines.some((line, n) => n % 2 === 1 && isDeep(line))) {
        return r.return(403, 'a line is no JSON, or nested too deep\n');
    }
    const reply = await r.subrequest('/elasticsearch/_bulk', {method: 'POST'});
    const items = reply.status === 200 ? answers(reply.responseText) : null;
    // 403 of a line: the disk of the server is so full that it only reads.
    if (items === null || items.some((item) => item.status === 403 || item.status === 429 || item.status >= 500)) {
        r.error(`logs of ${r.variables.ssl_client_s_dn} are not taken now: ${reply.status}`);
        return r.return(444); // rsyslog (8.2302) drops lines after an answer with a page: 345 of 600, measured
    }
    items.filter((item) => item.status >= 400 && item.status !== 409).forEach((item) => {
        r.error(`a line of ${r.variables.ssl_client_s_dn} is refused for ever: ${ascii(JSON.stringify(item.error))}`);
    });
    r.headersOut['Content-Type'] = 'application/json';
    r.return(200, '{"took":0,"errors":false,"items":[]}\n');
}

// Deeper than any sender of ours nests: jq (1.6: 256) could not read a page of answers with it, and log-query would print nothing of any
// machine. JSON.parse goes 32 deep, and is asked only where a line could be deeper.
function isDeep(line) {
    if (line.split('{').length + line.split('[').length < 32) {
        return false;
    }
    try {
        JSON.parse(line);
        return false;
    } catch (error) {
        return true;
    }
}

// A machine wrote this text; it must not control the terminal of a reader of the log.
function ascii(json) {
    return (json || '').replace(/[^ -~]/g, (c) => '\\u' + ('000' + c.charCodeAt(0).toString(16)).slice(-4));
}

// The result of each line; null when the answer is not from Elasticsearch.
function answers(text) {
    try {
        return JSON.parse(text).items.map((item) => item.create);
    } catch (error) {
        return null;
    }
}

export default {bulk};
