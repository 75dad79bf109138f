// What a user can choose from, and what he is told of the attempt before; the same as crates/screen shows at a terminal.
.pragma library

const catalogSchema = 2

const restores = {
    yesterday: [", as before the last day you used it", ", como antes do último dia em que você o usou"],
    clean: [", clean: your files on this computer are removed", ", limpo: seus arquivos neste computador são apagados"]
}

// The bases of a section catalog, in its order, and beside each the earlier contents of the disks on it. A row is
// {name, choice, isDefault}; choice is that section of a login's document.
function rows(catalog, locale) {
    if (!catalog || catalog.schema !== catalogSchema || !Array.isArray(catalog.bases)) return []
    const language = locale.indexOf("pt") === 0 ? 1 : 0
    const all = []
    for (const base of catalog.bases) {
        if (!base || typeof base.name !== "string") continue
        const title = shown(base.title || base.name)
        all.push({ name: title, choice: { base: base.name }, isDefault: base.default === true })
        if (!(base.volumes || []).some(volume => volume.restore_point_at)) continue
        for (const restore in restores)
            all.push({ name: title + restores[restore][language], choice: { base: base.name, restore: restore }, isDefault: false })
    }
    return all
}

// The text of a section explanation, with the cause by which a technician finds it; empty where there is nothing to explain.
function explained(explanation) {
    if (!explanation || typeof explanation.text !== "string") return ""
    return shown(explanation.text + (explanation.cause ? " [" + explanation.cause + "]" : ""))
}

// No text changes the order of others or hides itself.
function shown(text) {
    return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, "\ufffd")
}
