// Whose certificate opens the doors: that of the key with which its host is enrolled.
//
// What the private CA signed is valid for ten years, whether its host was expelled since or has another key by now. The fleet believes a
// report by the enrolled key alone, so what comes by another must not be taken: the host would throw away what nobody believes.
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
        throw error; // ours, and 500 to the host, which then keeps what it has
    }
    const key = bytes(pem);
    return key.length > 0 && bytes(r.variables.ssl_client_raw_cert || '').includes(key);
}

function bytes(pem) {
    return Buffer.from(pem.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64');
}

export default {is};
