// Letters of two keys, such as ã: Qt composes them only with X11 or Wayland. As in en_US.UTF-8/Compose of libX11, by which X11 does.
.pragma library

// By Qt.Key: the combining character of Unicode, and the character alone.
const dead = {
    [0x01001250]: ["\u0300", "`"], // Key_Dead_Grave
    [0x01001251]: ["\u0301", "'"], // Key_Dead_Acute
    [0x01001252]: ["\u0302", "^"], // Key_Dead_Circumflex
    [0x01001253]: ["\u0303", "~"], // Key_Dead_Tilde
    [0x01001254]: ["\u0304", "\u00af"], // Key_Dead_Macron
    [0x01001255]: ["\u0306", "\u02d8"], // Key_Dead_Breve
    [0x01001256]: ["\u0307", "\u02d9"], // Key_Dead_Abovedot
    [0x01001257]: ["\u0308", "\""], // Key_Dead_Diaeresis
    [0x01001258]: ["\u030a", "\u00b0"], // Key_Dead_Abovering
    [0x01001259]: ["\u030b", "\u02dd"], // Key_Dead_Doubleacute
    [0x0100125a]: ["\u030c", "\u02c7"], // Key_Dead_Caron
    [0x0100125b]: ["\u0327", "\u00b8"], // Key_Dead_Cedilla
    [0x0100125c]: ["\u0328", "\u02db"] // Key_Dead_Ogonek
}

function isDead(key) { return key in dead }

// The text of a dead key and the one after it. A letter that does not take it stands after the character alone.
function compose(key, text) {
    if (text === " ") return dead[key][1]
    const letter = (text + dead[key][0]).normalize("NFC")
    return letter.length === text.length ? letter : dead[key][1] + text
}
// The text of two dead keys.
function both(first, second) { return dead[first][1] + (first === second ? "" : dead[second][1]) }
