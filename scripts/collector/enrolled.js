// Whose certificate opens the doors: that of the key with which its host is enrolled.
//
// A certificate of the private CA is valid for ten years, even if its host was expelled or has another key since. The fleet accepts a
// report only by the enrolled key, so a report by another must be refused here: otherwise the host would delete it as delivered.
import fs from 'fs';

// The host's enrolled key, keys/HOST.pub, is a SubjectPublicKeyInfo (RFC 8410), which stands in a certificate of that key as it is. The
// rest of the certificate our own CA wrote, so it stands nowhere else.
function is(r, host) {
    let pem;
    try {
        pem = fs.readFileSync(`${r.variables.labtools_keys}/${host}.pub`, 'utf8');
    } catch (error) {
        if (error.code === 'ENOENT') {
            return false;
        }
        throw error; // an internal fault: 500, and the host keeps its report
    }
    const key = bytes(pem);
    return key.length > 0 && bytes(r.variables.ssl_client_raw_cert || '').includes(key);
}

function bytes(pem) {
    return Buffer.from(pem.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64');
}

export default {is};
