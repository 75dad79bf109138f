// Stores a report once, under the name that its sender gave it.
//
// nginx's own PUT overwrites, and its configuration cannot compare bytes: "the same again" (204) and "another one under the
// same id" (409) would be one answer, and a host would delete a report that was not stored. So these few lines decide, in nginx
// itself (njs, Debian's libnginx-mod-http-js); no other server stands behind it.
import fs from 'fs';
import enrolled from '@ETC@/enrolled.js';

const TEXT_HOSTS_MAX = 10000; // a campus has hundreds; a client with the secret cannot fill the disk with directories

// PUT /reports/HOST/SEQUENCE, /register/HOST/SEQUENCE. The certificate determines HOST.
function put(r) {
    const v = r.variables;
    if (v.labtools_client === '' || v.labtools_client !== v.labtools_host) {
        return answer(r, 403, 'the certificate is not of this host');
    }
    if (!exists(`${v.labtools_store}/${v.labtools_kind}/${v.labtools_host}`) || !enrolled.is(r, v.labtools_host)) {
        return answer(r, 403, 'this host is not enrolled, or with another key; see collector enroll');
    }
    keep(r, v.labtools_kind, v.labtools_host, v.labtools_sequence);
}

// POST / with Auth and Uuid, the script of the thesis (Figure 28). It may give no id: then the time, to the millisecond,
// and the number of the request are the name.
function post(r) {
    const v = r.variables;
    const host = r.headersIn.Uuid || '';
    if (v.labtools_auth !== '1') {
        return answer(r, 401, 'wrong or missing Auth');
    }
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(host)) {
        return answer(r, 400, 'Uuid is not a UUID in lower case');
    }
    const report = r.headersIn.Report;
    if (report !== undefined && !/^[0-9]{12}$/.test(report)) {
        return answer(r, 400, 'Report is not a number of twelve digits');
    }
    const directory = `${v.labtools_store}/text/${host}`;
    if (!exists(directory)) {
        if (fs.readdirSync(`${v.labtools_store}/text`).length >= TEXT_HOSTS_MAX) {
            return answer(r, 403, 'too many hosts');
        }
        try {
            fs.mkdirSync(directory, {mode: 0o750});
        } catch (error) {
            if (error.code !== 'EEXIST') { // by another worker
                throw error;
            }
        }
    }
    keep(r, 'text', host, report || `${v.msec.replace('.', '-')}-${v.request_id}`);
}

// 201: kept. 204: it was here. 409: another one was. The directory is synchronous (chattr +S), so a stored report is on the disk before the answer.
function keep(r, kind, host, name) {
    const store = r.variables.labtools_store;
    const body = r.requestBuffer;
    if (body === undefined || body.length === 0) {
        return answer(r, 400, 'an empty report');
    }
    const path = `${store}/${kind}/${host}/${name}`;
    let there = read(path);
    if (there === null) {
        // njs has no link(2), and rename(2) overwrites: the worker that creates this name stores the report, and no other meanwhile. After a
        // power cut `collector expire` removes it; until then the host gets the answer to retry.
        const incoming = `${store}/incoming/${kind}.${host}.${name}`;
        try {
            fs.writeFileSync(incoming, body, {mode: 0o640, flag: 'wx'});
        } catch (error) {
            if (error.code !== 'EEXIST') {
                remove(incoming);
            }
            return later(r, path, error);
        }
        try {
            there = read(path); // by a worker that was faster
            if (there === null) {
                fs.renameSync(incoming, path);
                return r.return(201);
            }
        } catch (error) {
            remove(incoming);
            return later(r, path, error);
        }
        remove(incoming);
    }
    return there.equals(body) ? r.return(204) : answer(r, 409, 'this id has other bytes here');
}

function later(r, path, error) {
    r.error(`keeping ${path}: ${error.message}`);
    answer(r, 503, 'it cannot be kept now');
}

function answer(r, status, why) {
    r.headersOut['Content-Type'] = 'text/plain';
    r.return(status, why + '\n');
}

function read(path) {
    return unlessMissing(() => fs.readFileSync(path));
}

function exists(path) {
    return unlessMissing(() => { fs.accessSync(path); return true; }) !== null;
}

// null when it does not exist. Any other fault is internal: 500, and the host keeps its report.
function unlessMissing(look) {
    try {
        return look();
    } catch (error) {
        if (error.code === 'ENOENT') {
            return null;
        }
        throw error;
    }
}

function remove(path) {
    try {
        fs.unlinkSync(path);
    } catch (error) {
        // it was not made, or has its name already
    }
}

export default {put, post};
