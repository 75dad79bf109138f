// The firmware of a Lenovo, as far as the kernel's think-lmi uses it: the settings, and their password. Each string is in the form
// that the comments of that driver describe.
//
//   VTdFeature, WakeOnLAN   take Disable and Enable
//   BootOption              says that it takes every value, and keeps its own
//
// The password can be set where there is none, is from 8 to 64 characters long, and is then wanted for each change. Unlike a real
// machine, a change is in effect at once.
DefinitionBlock ("", "SSDT", 1, "LABTLS", "LENOVO", 1)
{
    Scope (\_SB)
    {
        Device (WMI1)
        {
            Name (_HID, EisaId ("PNP0C14"))
            Name (_UID, 1)
            Name (S0, "VTdFeature,Disable")
            Name (S1, "WakeOnLAN,Disable")
            Name (S2, "BootOption,Enable")
            Name (PWD, "")
            // GUID, object, instances, flags: 4 a string, 2 a method. The last one is a buffer.
            Name (_WDG, Buffer ()
            {
                0x0E,0x23,0xF5,0x51,0x77,0x96,0xCD,0x46,0xA1,0xCF,0xC0,0xB2,0x3E,0xE3,0x4D,0xB7, 0x41,0x30, 3, 4, // settings
                0x64,0x9A,0x47,0x98,0xF5,0x33,0x33,0x4E,0xA7,0x07,0x8E,0x25,0x1E,0xBB,0xC3,0xA1, 0x41,0x31, 1, 6, // set one
                0xEF,0x54,0x4B,0x6A,0xED,0xA5,0x33,0x4D,0x94,0x55,0xB0,0xD9,0xB4,0x8D,0xF4,0xB3, 0x41,0x32, 1, 6, // save them
                0xFD,0xD9,0x51,0x26,0x1C,0x91,0x69,0x4B,0xB9,0x4E,0xD0,0xDE,0xD5,0x96,0x3B,0xD7, 0x41,0x34, 1, 6, // set the password
                0x1A,0x65,0x64,0x73,0x2F,0x13,0xE7,0x4F,0xAD,0xAA,0x40,0xC6,0xC7,0xEE,0x2E,0x3B, 0x41,0x35, 1, 6, // possible values
                0x9E,0x15,0xDB,0x8A,0x32,0x1E,0x5C,0x45,0xBC,0x93,0x30,0x8A,0x7E,0xD9,0x82,0x46, 0x41,0x33, 1, 0  // of passwords
            })
            Method (WQA0, 1, Serialized)
            {
                If (Arg0 == 0) { Return (S0) }
                If (Arg0 == 1) { Return (S1) }
                Return (S2)
            }
            // Mode, state (2: a supervisor password is set), least and greatest length, encodings, keyboards.
            Method (WQA3, 1, Serialized)
            {
                Local0 = Buffer (24) { 0,0,0,0, 0,0,0,0, 8,0,0,0, 64,0,0,0, 1,0,0,0, 1,0,0,0 }
                If (SizeOf (PWD) > 0) { Local0 [4] = 2 }
                Return (Local0)
            }
            // "NAME,VALUE;" or, with a password, "NAME,VALUE,PASSWORD,ascii,us;"
            Method (WMA1, 3, Serialized)
            {
                Local0 = ToString (Arg2)
                Local1 = ";"
                If (SizeOf (PWD) > 0) { Local1 = Concatenate (",", Concatenate (PWD, ",ascii,us;")) }
                If (SizeOf (Local0) <= SizeOf (Local1)) { Return ("Access Denied") }
                Local2 = SizeOf (Local0) - SizeOf (Local1)
                If (Mid (Local0, Local2, SizeOf (Local1)) != Local1) { Return ("Access Denied") }
                Local0 = Mid (Local0, 0, Local2)
                If (Mid (Local0, 0, 11) == "VTdFeature,") { S0 = Local0 Return ("Success") }
                If (Mid (Local0, 0, 10) == "WakeOnLAN,") { S1 = Local0 Return ("Success") }
                If (Mid (Local0, 0, 11) == "BootOption,") { Return ("Success") }
                Return ("Invalid Parameter")
            }
            Method (WMA2, 3, Serialized) { Return ("Success") }
            // "pap,OLD,NEW,ascii,us;" with no OLD. The driver calls it twice.
            Method (WMA4, 3, Serialized)
            {
                Local0 = ToString (Arg2)
                If (Mid (Local0, 0, 5) != "pap,,") { Return ("Access Denied") }
                Local0 = Mid (Local0, 5, SizeOf (Local0) - 15)
                If ((SizeOf (PWD) > 0) && (PWD != Local0)) { Return ("Access Denied") }
                PWD = Local0
                Return ("Success")
            }
            Method (WMA5, 3, Serialized)
            {
                If (ToString (Arg2) == "BootOption") { Return ("Disable,Enable,Other") }
                Return ("Disable,Enable")
            }
        }
    }
}
