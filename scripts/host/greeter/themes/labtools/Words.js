// The words of this theme, in English and Portuguese.
.pragma library

const english = {
    user: "User (name@institution)",
    password: "Password",
    system: "System",
    login: "Log in",
    restart: "Restart",
    powerOff: "Power off",
    capsLock: "Caps Lock is on",
    contacting: "Contacting your institution…",
    starting: "Your system is starting…",
    ending: "This computer is going down…",
    incomplete: "Type your user name and your password.",
    failed: "The login failed. Try again.",
    theme: "The theme of this site cannot be shown.",
    notice: "Files on this computer are removed when room is needed. Save yours to the cloud or a USB drive."
}
const portuguese = {
    user: "Usuário (nome@instituição)",
    password: "Senha",
    system: "Sistema",
    login: "Entrar",
    restart: "Reiniciar",
    powerOff: "Desligar",
    capsLock: "Caps Lock está ligado",
    contacting: "Contatando sua instituição…",
    starting: "Seu sistema está iniciando…",
    ending: "Este computador está desligando…",
    incomplete: "Digite seu usuário e sua senha.",
    failed: "A entrada falhou. Tente de novo.",
    theme: "O tema deste local não pode ser mostrado.",
    notice: "Os arquivos neste computador são apagados quando falta espaço. Guarde os seus na nuvem ou em um pendrive."
}

function of(locale) { return locale.indexOf("pt") === 0 ? portuguese : english }
