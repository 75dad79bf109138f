// A label and a line to type in.
import QtQuick 2.15

FocusScope {
    id: field

    property var look
    property alias label: label.text
    property alias text: input.text
    property bool isSecret: false
    signal accepted()

    width: parent.width
    height: label.height + box.height + 6 * look.unit
    Accessible.role: Accessible.EditableText
    Accessible.name: label.text

    Text {
        id: label
        color: field.look.text
        font.pixelSize: field.look.small
        textFormat: Text.PlainText
    }
    Rectangle {
        id: box
        anchors { left: parent.left; right: parent.right; top: label.bottom; topMargin: 6 * field.look.unit }
        height: 46 * field.look.unit
        radius: 4 * field.look.unit
        color: field.look.field
        border { color: input.activeFocus ? field.look.focus : field.look.line; width: (input.activeFocus ? 4 : 2) * field.look.unit }

        TextInput {
            id: input
            anchors { fill: parent; margins: 10 * field.look.unit }
            focus: true
            clip: true
            verticalAlignment: TextInput.AlignVCenter
            color: field.look.typed
            selectionColor: field.look.focus
            selectedTextColor: field.look.field
            selectByMouse: true
            font.pixelSize: field.look.normal
            echoMode: field.isSecret ? TextInput.Password : TextInput.Normal
            inputMethodHints: Qt.ImhNoAutoUppercase | Qt.ImhNoPredictiveText | (field.isSecret ? Qt.ImhSensitiveData : 0)
            onAccepted: field.accepted()
        }
    }
}
