// Sends a control to a service: control.exe NAME pause|continue|paramchange|interrogate. Wine's `sc` cannot.
#include <windows.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  const struct { const char *word; DWORD control; } known[] = {
      {"pause", SERVICE_CONTROL_PAUSE},
      {"continue", SERVICE_CONTROL_CONTINUE},
      {"paramchange", SERVICE_CONTROL_PARAMCHANGE},
      {"interrogate", SERVICE_CONTROL_INTERROGATE}};
  SERVICE_STATUS status;
  SC_HANDLE manager = OpenSCManagerA(NULL, NULL, SC_MANAGER_CONNECT), service;
  if (argc != 3 || !manager || !(service = OpenServiceA(manager, argv[1], SERVICE_ALL_ACCESS))) return 64;
  for (int i = 0; i < 4; i++) {
    if (strcmp(argv[2], known[i].word)) continue;
    if (!ControlService(service, known[i].control, &status)) { printf("error %lu\n", GetLastError()); return 1; }
    printf("state %lu\n", status.dwCurrentState);
    return 0;
  }
  return 64;
}
