// A calm screen for computer labs: one column to fill in, one message above it, and what each user must know.
//
// Tab goes through all of it, Enter goes on, arrows choose a system, Escape empties the form. theme.conf has what a site sets.
import QtQuick 2.15
import "Words.js" as Words

Rectangle {
    id: screen

    readonly property var words: Words.of(Qt.locale().name)
    property bool isAsking: false

    // Sizes follow the height: on any screen the same is read from the same distance. Texts have a contrast of 7:1 or more, but
    // for that of a button, 6.4:1.
    readonly property QtObject look: QtObject {
        readonly property bool high: config.highContrast === "true"
        readonly property real unit: Math.min(screen.width / 1280, screen.height / 800)
        readonly property real small: 20 * unit
        readonly property real normal: 24 * unit
        readonly property real large: 34 * unit
        readonly property color background: high ? "#000000" : "#17344d"
        readonly property color text: "#ffffff"
        readonly property color field: high ? "#000000" : "#f4f7f9"
        readonly property color typed: high ? "#ffffff" : "#10202e"
        readonly property color line: high ? "#ffffff" : "#7d9ab0"
        readonly property color focus: high ? "#ffff00" : "#ffb84d"
        readonly property color main: high ? "#ffff00" : "#0b5fa5"
        readonly property color mainText: high ? "#000000" : "#ffffff"
        readonly property color warning: high ? "#ffff00" : "#ffd591"
    }

    color: look.background
    Component.onCompleted: {
        if (__sddm_errors) complain(words.theme)
        user.forceActiveFocus()
    }

    function complain(text) {
        message.text = text
        message.isWarning = true
    }
    function tell(text) {
        message.text = text
        message.isWarning = false
    }
    function login() {
        if (isAsking) return
        if (!user.text || !password.text) {
            complain(words.incomplete)
            if (user.text) password.forceActiveFocus()
            else user.forceActiveFocus()
            return
        }
        isAsking = true
        tell(words.contacting)
        sddm.login(user.text, password.text, systems.index)
    }
    function leave(how) {
        if (isAsking) return
        isAsking = true
        tell(words.ending)
        how()
    }

    Connections {
        target: sddm
        function onLoginFailed() {
            isAsking = false
            password.text = ""
            complain(words.failed)
            if (user.text) password.forceActiveFocus()
            else user.forceActiveFocus()
        }
        function onLoginSucceeded() { tell(words.starting) }
        function onInformationMessage(text) { complain(text) }
    }
    Keys.onEscapePressed: {
        if (isAsking) return
        user.text = password.text = message.text = ""
        user.forceActiveFocus()
    }

    Column {
        anchors { left: parent.left; top: parent.top; margins: 32 * look.unit }
        Text {
            color: look.text
            font { pixelSize: look.large; bold: true }
            textFormat: Text.PlainText
            text: sddm.hostName
        }
        Text {
            color: look.text
            font.pixelSize: look.normal
            textFormat: Text.PlainText
            text: config.room || ""
        }
    }
    Text {
        id: clock
        anchors { right: parent.right; top: parent.top; margins: 32 * look.unit }
        color: look.text
        font.pixelSize: look.large
        Timer {
            interval: 5000
            repeat: true
            running: true
            triggeredOnStart: true
            onTriggered: clock.text = Qt.formatTime(new Date(), "hh:mm")
        }
    }

    Rectangle {
        id: message
        property alias text: said.text
        property bool isWarning: false
        anchors { left: form.left; right: form.right; bottom: form.top; bottomMargin: form.spacing }
        height: said.height + 20 * look.unit
        radius: 4 * look.unit
        visible: text !== ""
        color: "transparent"
        border { color: isWarning ? look.warning : look.line; width: 2 * look.unit }
        Accessible.role: Accessible.AlertMessage
        Accessible.name: text
        Text {
            id: said
            anchors { left: parent.left; right: parent.right; verticalCenter: parent.verticalCenter; margins: 14 * look.unit }
            color: message.isWarning ? look.warning : look.text
            font { pixelSize: look.small; bold: true }
            wrapMode: Text.Wrap
            maximumLineCount: 4
            elide: Text.ElideRight
            textFormat: Text.PlainText
        }
    }
    Column {
        id: form
        anchors.centerIn: parent
        width: 760 * look.unit
        spacing: 14 * look.unit

        Field {
            id: user
            look: screen.look
            label: words.user
            enabled: !isAsking
            onAccepted: password.forceActiveFocus()
            KeyNavigation.tab: password
            KeyNavigation.backtab: powerOff
        }
        Field {
            id: password
            look: screen.look
            label: words.password
            isSecret: true
            enabled: !isAsking
            onAccepted: screen.login()
            KeyNavigation.tab: systems.visible ? systems : login
            Text {
                anchors { right: parent.right; top: parent.top }
                visible: keyboard.capsLock
                color: look.warning
                font { pixelSize: look.small; bold: true }
                textFormat: Text.PlainText
                text: words.capsLock
            }
        }
        Systems {
            id: systems
            look: screen.look
            label: words.system
            model: sessionModel
            index: sessionModel.lastIndex
            visible: sessionModel.count > 1
            enabled: !isAsking
            onAccepted: screen.login()
            KeyNavigation.tab: login
        }
        PushButton {
            id: login
            look: screen.look
            text: words.login
            isMain: true
            enabled: !isAsking
            width: parent.width
            onPressed: screen.login()
            KeyNavigation.tab: restart
            KeyNavigation.backtab: systems.visible ? systems : password
        }
    }

    Item {
        id: bottom
        anchors { left: parent.left; right: parent.right; bottom: parent.bottom; margins: 32 * look.unit }
        height: Math.max(notice.height, powerOff.height)
        Text {
            id: notice
            anchors { left: parent.left; right: restart.left; rightMargin: 32 * look.unit; verticalCenter: parent.verticalCenter }
            color: look.text
            font.pixelSize: look.small
            wrapMode: Text.Wrap
            maximumLineCount: 3
            elide: Text.ElideRight
            textFormat: Text.PlainText
            text: config.notice || words.notice
        }
        PushButton {
            id: restart
            anchors { right: powerOff.left; rightMargin: 16 * look.unit; verticalCenter: parent.verticalCenter }
            look: screen.look
            text: words.restart
            visible: sddm.canReboot
            onPressed: screen.leave(sddm.reboot)
            KeyNavigation.tab: powerOff
        }
        PushButton {
            id: powerOff
            anchors { right: parent.right; verticalCenter: parent.verticalCenter }
            look: screen.look
            text: words.powerOff
            visible: sddm.canPowerOff
            onPressed: screen.leave(sddm.powerOff)
            KeyNavigation.tab: user
        }
    }
}
