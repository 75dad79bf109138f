// The list of systems: four rows of it, moved by the arrow keys.
import QtQuick 2.15

FocusScope {
    id: systems

    property var look
    property alias label: label.text
    property alias model: list.model
    property alias index: list.currentIndex
    readonly property real row: 44 * look.unit
    signal accepted()

    width: parent.width
    height: visible ? label.height + 6 * look.unit + box.height : 0
    Accessible.role: Accessible.List
    Accessible.name: label.text

    Text {
        id: label
        color: systems.look.text
        font.pixelSize: systems.look.small
        textFormat: Text.PlainText
    }
    Text {
        anchors { right: parent.right; baseline: label.baseline }
        visible: list.count > 4
        color: systems.look.text
        font.pixelSize: systems.look.small
        text: (list.currentIndex + 1) + " / " + list.count
    }
    Rectangle {
        id: box
        anchors { left: parent.left; right: parent.right; top: label.bottom; topMargin: 6 * systems.look.unit }
        height: Math.min(list.count, 4) * systems.row + 8 * systems.look.unit
        radius: 4 * systems.look.unit
        color: systems.look.field
        border { color: list.activeFocus ? systems.look.focus : systems.look.line; width: (list.activeFocus ? 4 : 2) * systems.look.unit }

        ListView {
            id: list
            anchors { fill: parent; margins: 4 * systems.look.unit }
            focus: true
            clip: true
            boundsBehavior: Flickable.StopAtBounds
            highlightMoveDuration: 0
            onHeightChanged: Qt.callLater(positionViewAtIndex, currentIndex, ListView.Center)
            Keys.onReturnPressed: systems.accepted()
            Keys.onEnterPressed: systems.accepted()
            delegate: Rectangle {
                width: list.width
                height: systems.row
                color: ListView.isCurrentItem ? systems.look.main : "transparent"
                Text {
                    anchors { fill: parent; leftMargin: 10 * systems.look.unit; rightMargin: 10 * systems.look.unit }
                    verticalAlignment: Text.AlignVCenter
                    elide: Text.ElideRight
                    color: parent.ListView.isCurrentItem ? systems.look.mainText : systems.look.typed
                    font.pixelSize: systems.look.small
                    textFormat: Text.PlainText
                    text: model.name
                }
                MouseArea {
                    anchors.fill: parent
                    onClicked: {
                        list.currentIndex = index
                        systems.forceActiveFocus()
                    }
                }
            }
        }
    }
}
