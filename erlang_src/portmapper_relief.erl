%% @doc Waits for the end of `portmapper_sup' elsewhere in this VM, to have it started
%% here: the application and {@link portmapper_epmd} both stand on it, and either may
%% end before the other.
-module(portmapper_relief).
-behaviour(gen_server).

-export([start_link/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Milliseconds until a supervisor has restarted what has died, and between two looks for one
%% that was not there.
-define(RESTART_TIME, 200).
-define(LOOK_INTERVAL, 1000).

-spec start_link(Supervisor :: pid()) -> gen_server:start_ret().
start_link(Supervisor) ->
    gen_server:start_link(?MODULE, Supervisor, []).

%% @private
-spec init(pid()) -> {ok, pid()}.
init(Supervisor) ->
    _ = monitor(process, portmapper_sup),
    {ok, Supervisor}.

%% @private
handle_call(_Request, _From, Supervisor) ->
    {noreply, Supervisor}.

%% @private
handle_cast(_Message, Supervisor) ->
    {noreply, Supervisor}.

%% @private
handle_info({'DOWN', _Monitor, process, _Sup, _Reason}, Supervisor) ->
    Time =
        case supervisor:restart_child(Supervisor, portmapper_sup) of
            %% There is no server yet.
            {ok, undefined} -> ?LOOK_INTERVAL;
            %% It may be there already, if it was here.
            _ -> ?RESTART_TIME
        end,
    _ = erlang:send_after(Time, self(), watch),
    {noreply, Supervisor};
handle_info(watch, Supervisor) ->
    _ = monitor(process, portmapper_sup),
    {noreply, Supervisor};
handle_info(_Message, Supervisor) ->
    {noreply, Supervisor}.
