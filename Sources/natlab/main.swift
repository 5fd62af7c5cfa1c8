import NatlabCommands

runNatlab()
