// A button, by the mouse, Enter or the space bar.
import QtQuick 2.15

Rectangle {
    id: button

    property var look
    property alias text: label.text
    property bool isMain: false
    signal pressed()

    width: label.implicitWidth + 40 * look.unit
    height: 46 * look.unit
    radius: 4 * look.unit
    color: isMain ? look.main : "transparent"
    border { color: activeFocus ? look.focus : look.line; width: (activeFocus ? 4 : 2) * look.unit }
    Accessible.role: Accessible.Button
    Accessible.name: label.text
    Keys.onReturnPressed: pressed()
    Keys.onEnterPressed: pressed()
    Keys.onSpacePressed: pressed()

    Text {
        id: label
        anchors.centerIn: parent
        color: button.isMain ? button.look.mainText : button.look.text
        font { pixelSize: button.isMain ? button.look.normal : button.look.small; bold: button.isMain }
        textFormat: Text.PlainText
    }
    MouseArea {
        anchors.fill: parent
        onClicked: {
            button.forceActiveFocus()
            button.pressed()
        }
    }
}
