// The login screen: a theme of SDDM, the objects that it expects around it, and the way of a login out of this process.
//
// A theme that is loaded inside of this window sees the window's properties by their names: sddm, config, userModel, sessionModel,
// screenModel, keyboard, primaryScreen and __sddm_errors, which are those of SDDM 0.19 to 0.21 (its src/greeter). The program greeter
// starts this in a directory with the documents, named 0, 1, 2, …, the link "theme", the file "layout", and the pipe "answers".

import QtQuick 2.15
import QtQuick.Window 2.15
import "Catalog.js" as Catalog
import "DeadKeys.js" as DeadKeys
import "Settings.js" as Settings

Item {
    id: root

    property QtObject sddm: QtObject {
        readonly property string hostName: root.read("file:///proc/sys/kernel/hostname").trim()
        readonly property bool canPowerOff: true
        readonly property bool canReboot: true
        readonly property bool canSuspend: false
        readonly property bool canHibernate: false
        readonly property bool canHybridSleep: false
        signal loginFailed()
        signal loginSucceeded()
        signal informationMessage(string message)
        function login(user, password, session) { root.login(user, password, session) }
        function powerOff() { root.answer({ power: "off" }) }
        function reboot() { root.answer({ power: "restart" }) }
        function suspend() {}
        function hibernate() {}
        function hybridSleep() {}
    }
    property var config: ({})
    property string __sddm_errors: ""
    property bool primaryScreen: true
    // The bases. data is for themes that call it as that of SDDM's model: a role is a number from Qt.UserRole on.
    property ListModel sessionModel: ListModel {
        property int lastIndex: 0
        function data(index, role) {
            const row = index.row >= 0 && index.row < count ? get(index.row) : {}
            return row[["directory", "file", "type", "name", "exec", "comment"][role - Qt.UserRole - 1] || "name"]
        }
    }
    // Nobody is known before he logs in.
    property ListModel userModel: ListModel {
        property int lastIndex: 0
        property string lastUser: ""
        property int disableAvatarsThreshold: 7
        property bool containsAllUsers: false
        function data(index, role) { return undefined }
    }
    property ListModel screenModel: ListModel {
        property int primary: 0
        function geometry(index) { return Qt.rect(0, 0, root.width, root.height) }
    }
    property QtObject keyboard: QtObject {
        property bool enabled: true
        property bool capsLock: false // as the last letter showed it
        property bool numLock: false
        property var layouts: []
        property int currentLayout: 0
    }

    property string room: "" // of hosts.ini
    property var choices: [] // the section choice of each row of sessionModel
    property string offered: "" // the rows of sessionModel, as text
    property int documents: 0 // how many were taken
    property bool isWaiting: false // for the document that ends an attempt
    readonly property string inputDevices: "file:///proc/bus/input/devices"
    property string devices: "" // their list at the begin
    property var watched: [] // the items whose keys are seen

    width: 1280
    height: 800 // until it has the size of the screen
    Component.onCompleted: begin()
    Window.onActiveFocusItemChanged: watch(Window.activeFocusItem)

    FocusScope {
        id: stage
        focus: true
        anchors.fill: parent
    }
    // Of many themes no message can be seen but that the login failed.
    Rectangle {
        id: message
        property bool isNeeded: false
        property alias text: said.text
        anchors { left: parent.left; right: parent.right; bottom: parent.bottom }
        height: said.height + 32
        color: "#e6000000"
        visible: isNeeded && text !== ""
        Text {
            id: said
            anchors { left: parent.left; right: parent.right; verticalCenter: parent.verticalCenter; margins: 32 }
            color: "white"
            font.pixelSize: Math.max(20, root.height / 36)
            horizontalAlignment: Text.AlignHCenter
            wrapMode: Text.Wrap
            textFormat: Text.PlainText
        }
    }
    Timer {
        interval: 150
        repeat: true
        running: root.documents > 0
        onTriggered: root.take()
    }
    // udev tells of a new keyboard over the network, which is not here. So the screen begins anew once the kernel has another list.
    Timer {
        property string before: ""
        interval: 2000
        repeat: true
        running: root.documents > 0
        onTriggered: {
            const devices = root.read(root.inputDevices)
            if (devices !== root.devices && devices === before && !root.isWaiting) Qt.exit(75)
            before = devices
        }
    }

    function begin() {
        devices = read(inputDevices)
        const layout = read("layout").trim()
        keyboard.layouts = [{ shortName: layout, longName: layout }]
        screenModel.append({ name: "1", geometry: { x: 0, y: 0, width: width, height: height } })
        let count = 0, catalog, explanation
        for (let line = read(0); line !== "" && line !== "end\n"; line = read(++count)) {
            const document = parse(line)
            catalog = document.catalog || catalog
            room = (document.machine || {}).room || room
            explanation = document.explanation
        }
        fill(rows(catalog))
        if (Qt.application.screens.length === 0) {
            console.error("greeter: there is no display")
            Qt.callLater(Qt.quit)
            return
        }
        if (!load("file:///proc/self/cwd/theme/") && !load(Qt.resolvedUrl("themes/labtools/"))) {
            Qt.callLater(Qt.quit) // there is no loop to quit yet
            return
        }
        console.error("greeter: shown")
        documents = count
        explain(explanation)
    }

    // Loads the theme at a URL; false when it has errors, which the technician and the next theme are shown.
    function load(url) {
        const metadata = Settings.parse(read(url + "metadata.desktop"), "SddmGreeterTheme")
        const file = metadata.ConfigFile || "theme.conf"
        const settings = Object.assign(Settings.parse(read(url + file), "General"), Settings.parse(read(url + file + ".user"), "General"))
        settings.room = settings.room || room
        config = Settings.typed(settings)
        const script = url + (metadata.MainScript || "Main.qml")
        const component = Qt.createComponent(script)
        const item = component.status === Component.Ready ? component.createObject(stage) : null
        if (!item) {
            __sddm_errors = component.errorString().trim() || url + ": no item"
            console.error("greeter: loading the theme: " + __sddm_errors.replace(/\s*\n\s*/g, "; "))
            return false
        }
        item.width = Qt.binding(() => stage.width)
        item.height = Qt.binding(() => stage.height)
        message.isNeeded = read(script).indexOf("InformationMessage") < 0
        return true
    }

    // Takes the document that ends an attempt, once it is there, or the end of all.
    function take() {
        const line = read(documents)
        if (line === "") return
        documents++
        if (line === "end\n") {
            sddm.loginSucceeded()
            Qt.quit()
            return
        }
        const document = parse(line)
        if (document.catalog && JSON.stringify(rows(document.catalog)) !== offered) {
            Qt.exit(75) // no theme expects that its sessions change, so the screen begins anew
            return
        }
        isWaiting = false
        sddm.loginFailed()
        explain(document.explanation)
    }

    function explain(explanation) {
        message.text = Catalog.explained(explanation)
        if (message.text) sddm.informationMessage(message.text)
    }

    function login(user, password, session) {
        if (user === "" || password === "") {
            if (!isWaiting) sddm.loginFailed()
            return
        }
        const index = session in choices ? session : sessionModel.lastIndex
        answer({ login: { username: user, password: password }, choice: choices[index] })
    }

    // Sends an answer. One at a time: nobody reads another one before the attempt has ended.
    function answer(document) {
        if (isWaiting) return
        isWaiting = true
        message.text = ""
        const request = new XMLHttpRequest()
        request.open("PUT", "file:///proc/self/cwd/answers", false)
        request.send(JSON.stringify(document) + "\n")
    }

    function rows(catalog) { return Catalog.rows(catalog, Qt.locale().name) }

    function fill(rows) {
        offered = JSON.stringify(rows)
        choices = rows.map(row => row.choice)
        rows.forEach(row => sessionModel.append({ name: row.name, file: row.choice.base, comment: "", directory: "", exec: "", type: "" }))
        sessionModel.lastIndex = Math.max(0, rows.findIndex(row => row.isDefault))
    }

    // Any screen is better than none: a user cannot mend a document.
    function parse(line) {
        try { return Object(JSON.parse(line)) } catch (error) { return {} }
    }

    // The content of a file, by its URL or its name in this directory; empty where there is none.
    function read(name) {
        const request = new XMLHttpRequest()
        request.open("GET", String(name).indexOf("file:") === 0 ? name : "file:///proc/self/cwd/" + name, false)
        request.send()
        return request.responseText
    }

    // Qt tells no state of Caps Lock, and composes no letters here. So each item that gets keys is watched.
    function watch(item) {
        if (!item || watched.indexOf(item) >= 0) return
        watched.push(item)
        item.Keys.pressed.connect(event => {
            const lower = event.text.toLowerCase(), upper = event.text.toUpperCase()
            if (event.key === Qt.Key_CapsLock) keyboard.capsLock = false // until the next letter
            else if (lower !== upper) keyboard.capsLock = (event.text === upper) !== Boolean(event.modifiers & Qt.ShiftModifier)
            event.accepted = item.insert !== undefined && composes(item, event.key, event.text)
        })
    }
    property int deadKey: 0 // the one that waits for its letter

    // Whether a key was taken as a part of a letter of two keys.
    function composes(item, key, text) {
        const first = deadKey
        if (DeadKeys.isDead(key)) {
            deadKey = first ? 0 : key
            if (first) type(item, DeadKeys.both(first, key))
            return true
        }
        if (!first || text === "") return false // Shift, too, has no text
        deadKey = 0
        if (text < " " || text === "\u007f") return key === Qt.Key_Backspace // which takes the dead key back
        type(item, DeadKeys.compose(first, text))
        return true
    }
    function type(item, text) {
        item.remove(item.selectionStart, item.selectionEnd)
        item.insert(item.cursorPosition, text)
    }
}
