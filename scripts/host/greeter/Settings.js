// Reads the settings of a theme: theme.conf, theme.conf.user and metadata.desktop, in the form of QSettings.
.pragma library

// The keys of a file. Those of the section given stand alone, all others as SECTION/KEY.
function parse(text, section) {
    const found = {}
    let prefix = ""
    for (const line of text.split(/\r?\n/)) {
        const head = line.match(/^\s*\[(.*)\]\s*$/)
        const entry = line.match(/^\s*([^=;#\s][^=]*?)\s*=\s*(.*?)\s*$/)
        if (head) prefix = head[1] === section ? "" : head[1] + "/"
        else if (entry) found[prefix + entry[1]] = value(entry[2])
    }
    return found
}

function value(text) {
    const quoted = text.match(/^"((?:[^"\\]|\\.)*)"$/)
    return quoted ? quoted[1].replace(/\\n/g, "\n").replace(/\\(.)/g, "$1") : text
}

// The same object, with the functions by which SDDM gives a key its type since 0.20.
function typed(settings) {
    settings.stringValue = key => String(settings[key] === undefined ? "" : settings[key])
    settings.boolValue = key => ["", "0", "false"].indexOf(settings.stringValue(key).toLowerCase()) < 0
    settings.intValue = key => parseInt(settings[key]) || 0
    settings.realValue = key => parseFloat(settings[key]) || 0
    return settings
}
