// The door for logs: a host can add lines to the indexes of the logs, and nothing else.
//
// Elasticsearch takes deletions, and documents of any index, by the same address as new lines; so what stands in a request is read
// before it is handed on. And what it refuses it may refuse by line, in an answer that says 200: rsyslog and Fluent Bit then lose lines,
// or send the same for ever. So they hear that all was taken, or nothing, and send all of it again: what is there already stays as it is.
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
        return r.return(444); // rsyslog (8.2302) throws away what is answered by a page: measured, 345 of 600 lines
    }
    items.filter((item) => item.status >= 400 && item.status !== 409).forEach((item) => {
        r.error(`a line of ${r.variables.ssl_client_s_dn} is refused for ever: ${ascii(JSON.stringify(item.error))}`);
    });
    r.headersOut['Content-Type'] = 'application/json';
    r.return(200, '{"took":0,"errors":false,"items":[]}\n');
}

// What no sender of ours makes: so deep that jq (1.6: 256) reads no page of answers with it, and log-query would tell nothing of any
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

// What a machine wrote stands in it, and moves the terminal of nobody who reads the log.
function ascii(json) {
    return (json || '').replace(/[^ -~]/g, (c) => '\\u' + ('000' + c.charCodeAt(0).toString(16)).slice(-4));
}

// What became of each line; null when it is not an answer of Elasticsearch.
function answers(text) {
    try {
        return JSON.parse(text).items.map((item) => item.create);
    } catch (error) {
        return null;
    }
}

export default {bulk};
